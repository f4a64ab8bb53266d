//! After storing: renewing a lease and ending it. The owner signs a lease of a higher version and tells every node that
//! should hold the record.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::{ReadError, TransportError};
use format::{Kind, Lease, Level, Locator, Moment, NodeName, Profile, Record, Redundancy, Retention};
use futures::{StreamExt, stream};

use crate::{
    index::{Batch, Change, Entry, Family, Index, IndexError, Listed, Page, PageAsk, Position, State, Tenure},
    policy_name::PolicyNameError,
    progress::Progress,
    retention::{self, RetentionError},
    twin::Twin,
    urls::{Target, TargetError},
};

mod over;
mod removal;
mod renewal;
mod telling;

pub use over::Over;
pub use removal::Removed;
pub use renewal::{Renewal, Sooner};
pub(crate) use telling::{Patience, Shown};

/// How many leases are changed concurrently. Each node gets a call for most of them, over one connection, which takes
/// 128 calls at once; a reader of records needs some of these too.
const OBJECTS_AT_ONCE: usize = 64;
/// How often a lease that another machine of the owner changes meanwhile is read and signed anew.
const TRIES_MAX: usize = 3;

/// Which nodes have one object's new lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Nodes that hold the new lease.
    pub nodes: BTreeSet<NodeName>,
    /// Nodes that should have it but could not be told. They learn it from the catalog and change feed of the others.
    pub missed: BTreeSet<NodeName>,
}

/// Why a lease was not renewed or ended.
#[derive(Debug, thiserror::Error)]
pub enum LeaseChangeError {
    /// Another owner stored it.
    #[error("the object belongs to another owner; only its owner ends or renews its lease")]
    NotOurs,
    /// No node knows it.
    #[error("no node knows the object: it has expired, was erased, or was never stored")]
    Unknown,
    /// It is a stable name, which has no policy, places or times of its own.
    #[error("a stable name has nothing of this to renew: it goes by the object that it stands for")]
    Name,
    /// It was erased.
    #[error("the object was erased; an erased object cannot come back")]
    Erased,
    /// A removal of it was cut short, and some nodes may have erased it.
    #[error("a removal of the object has begun, which cannot be taken back")]
    Ending,
    /// The owner promised to keep it.
    #[error("the object is to be kept until {}", Moment(*until))]
    Kept {
        /// Seconds since 1970.
        until: u64,
    },
    /// The owner promised to keep it, and the new lease would take the promise back.
    #[error("the object is to be kept until {}; a renewal can only prolong that", Moment(*until))]
    Shortened {
        /// Seconds since 1970.
        until: u64,
    },
    /// The object would end before it does now, and nobody agreed to that.
    #[error(
        "the object would end at {}, sooner than {}",
        Moment(*end), held.map_or_else(|| "now: it has no end".to_owned(), |held| Moment(held).to_string())
    )]
    Sooner {
        /// Seconds since 1970 at which it ends now; none for never.
        held: Option<u64>,
        /// Seconds since 1970 at which it would end.
        end: u64,
    },
    /// A program is storing it, or the folder that it is a part of.
    #[error("a `put` is storing this just now")]
    Busy,
    /// The times cannot be those of a lease.
    #[error("the lease is not renewed to such a time")]
    Retention(#[from] RetentionError),
    /// The policy cannot be named in a lease.
    #[error("the lease is not renewed under this policy")]
    Policy(#[from] PolicyNameError),
    /// Two caps for one level.
    #[error("{level} is capped twice; name one number")]
    Caps {
        /// The level.
        level: Level,
    },
    /// The profile has another number of data columns, which would change every strip.
    #[error(
        "{asked} has other data shards than the object's {stored}, so every shard and the name would be new: get it and put it again"
    )]
    OtherData {
        /// What was asked.
        asked: Redundancy,
        /// What the name commits to.
        stored: Redundancy,
    },
    /// The name commits to the hashes of fewer columns.
    #[error(
        "{asked} has more parity shards than the {stored} whose hashes the name commits to: get the object and put it again"
    )]
    MoreParity {
        /// What was asked.
        asked: Redundancy,
        /// What the name commits to.
        stored: Redundancy,
    },
    /// The last copy beside it would go, and nobody knows that the other is good.
    #[error("an object that was stored as {stored} keeps one parity shard: for 1+0 get the object and put it again")]
    NoParity {
        /// What the name commits to.
        stored: Redundancy,
    },
    /// A named profile depends on the object's length, and the index of uploads does not list the object.
    #[error("this index of uploads does not know how long the object is: write the redundancy as data+parity")]
    Length,
    /// The record cannot be read now.
    #[error("the object's record cannot be read")]
    Read(#[source] ReadError),
    /// Fewer than a majority of the nodes took the lease. A retry is safe (idempotent).
    #[error("{told} of {asked} nodes took the new lease")]
    TooFew {
        /// Nodes that took it.
        told: usize,
        /// Nodes asked.
        asked: usize,
        /// A failure: one that may pass when the same call may succeed later, and else a refusal.
        source: Option<TransportError>,
    },
    /// Another machine of the owner changed the lease at the same time, again and again.
    #[error("another machine of this owner signed version {version} of the lease meanwhile")]
    Overtaken {
        /// The version that nodes have.
        version: u64,
    },
    /// Most nodes do not know the object, but some do not answer. It stays in the index, because these may serve it.
    #[error(
        "the nodes that answer have no record of the object, but {} may have one and do not answer",
        silent.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Unsure {
        /// Nodes that did not answer.
        silent: BTreeSet<NodeName>,
        /// How the last of them failed.
        source: TransportError,
    },
    /// The nodes were told, but the index cannot be written. Repeat the call.
    #[error("the index of uploads cannot be written")]
    Index(#[from] IndexError),
}

impl LeaseChangeError {
    /// Returns whether a later call may succeed, because nodes or the index did not answer this one.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Read(_) | Self::TooFew { .. } | Self::Overtaken { .. } | Self::Unsure { .. } | Self::Index(_)
        )
    }
}

impl Twin {
    /// Returns the locator of an object that is to be changed as a whole. The path after a file's label is only the
    /// file's name. The path after a folder's label names a part of the folder, and this label cannot change that
    /// part's lease.
    ///
    /// # Errors
    /// [`TargetError::Inside`] when there is a path and the index does not know the object as a file.
    pub async fn whole(&self, target: &Target) -> Result<Locator, TargetError> {
        let locator = target.label.capability().locator();
        let is_file = move |index: &mut Index| {
            index.entry(&locator).is_some_and(|entry| entry.kind == Kind::File && entry.name.is_none())
        };
        if target.path.is_empty() || self.with_index(is_file).await {
            return Ok(locator);
        }
        Err(TargetError::Inside { label: target.label.to_string() })
    }

    /// Returns all uploads by their locators.
    pub async fn list(&self) -> BTreeMap<Locator, Entry> {
        self.with_index(|index| index.entries().map(|(locator, entry)| (*locator, entry.clone())).collect()).await
    }

    /// Reads what other programs wrote to the index until now, for one that runs for long.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn catch_up(&self) -> Result<(), IndexError> {
        self.with_index(Index::refresh).await
    }

    /// Returns a page of the list of uploads, with what other programs wrote until now ([`Index::page`]).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn page(&self, ask: PageAsk) -> Result<Page, IndexError> {
        self.with_index(move |index| index.refresh().map(|()| index.page(&ask))).await
    }

    /// Returns an upload that was stored to its end, with the size of everything in it ([`Index::whole`]).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn upload(&self, locator: Locator) -> Result<Option<Listed>, IndexError> {
        self.with_index(move |index| index.refresh().map(|()| index.whole(&locator))).await
    }

    /// Returns the entries of uploads, and the paths and media types of the files of folders, at most so many of each.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn entries_and_files(
        &self,
        uploads: BTreeSet<Locator>,
        folders: BTreeSet<Batch>,
        files_max: usize,
    ) -> Result<(BTreeMap<Locator, Entry>, BTreeMap<Batch, Vec<(String, String)>>), IndexError> {
        self.with_index(move |index| {
            index.refresh()?;
            let entry = |locator: Locator| Some((locator, index.entry(&locator)?.clone()));
            let entries = uploads.into_iter().filter_map(entry).collect();
            let mut files: BTreeMap<Batch, Vec<(String, String)>> = BTreeMap::new();
            let is_file =
                |it: &Entry| it.position == Position::Inner && it.kind == Kind::File && folders.contains(&it.batch);
            // Most lists have no folder.
            let all = if folders.is_empty() { 0 } else { usize::MAX };
            for (_, entry) in index.entries().take(all).filter(|(_, entry)| is_file(entry)) {
                let of_it = files.entry(entry.batch).or_default();
                if of_it.len() < files_max {
                    let path = entry.path.split_once('/').map_or(entry.path.as_str(), |(_, path)| path);
                    of_it.push((path.to_owned(), entry.mime.clone()));
                }
            }
            files.values_mut().for_each(|files| files.sort_unstable());
            Ok((entries, files))
        })
        .await
    }

    /// Returns what lies under a path of the list ([`Index::under`]).
    pub async fn under(&self, folder: &str) -> BTreeSet<Locator> {
        let folder = folder.to_owned();
        self.with_index(move |index| index.under(&folder)).await
    }

    /// Renews the lease of an object, and of everything that belongs to it, as [`Self::renew_all`] does.
    ///
    /// # Errors
    /// [`LeaseChangeError`]; other members may be renewed.
    pub async fn renew(
        &self,
        locator: &Locator,
        renewal: &Renewal,
    ) -> Result<BTreeMap<Locator, Told>, LeaseChangeError> {
        let quiet: Arc<dyn Progress> = Arc::new(());
        let (renewed, failed) = self.renew_all(&[*locator].into(), renewal, &quiet).await?;
        failed.into_values().next().map_or(Ok(renewed), Err)
    }

    /// Renews the leases of uploads and of everything that belongs to them, many at once. Returns the objects renewed,
    /// and why the uploads of others were not: one that fails stops no other.
    ///
    /// # Errors
    /// [`LeaseChangeError`] when the renewal can be that of no object.
    pub async fn renew_all(
        &self,
        locators: &BTreeSet<Locator>,
        renewal: &Renewal,
        progress: &Arc<dyn Progress>,
    ) -> Result<(BTreeMap<Locator, Told>, BTreeMap<Locator, LeaseChangeError>), LeaseChangeError> {
        let times = renewal.named_times();
        if times != Retention::default() || renewal.expires.is_some() {
            self.check_clock().map_err(RetentionError::from)?;
        }
        let (now, patience) = (self.now(), &Patience::begin());
        retention::check(times, now)?;
        if let Some(policy) = &renewal.policy {
            self.know_policy(policy).await?;
        }
        let (mut renewed, mut failed, mut members) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (top, family) in self.families(locators).await {
            // Check all members before changing one, so that a tree is not renewed only up to the first that refuses.
            if let Err(error) = self.check_renewal(&top, &family, renewal, patience).await {
                failed.insert(top, error);
            } else if family.is_empty() {
                members.push((top, top, None));
            } else {
                members.extend(family.into_iter().map(|(member, entry)| (top, member, Some(entry))));
            }
        }
        progress.leases(members.len());
        let renew = |(top, member, entry): (Locator, Locator, Option<Entry>)| async move {
            // Of a folder that did not end. Without a record it has no lease, and whoever stores it signs one.
            let is_open = entry.as_ref().is_some_and(|it| it.position == Position::Inner && it.state != State::Stored);
            let told = self.renew_member(&member, entry, renewal, patience).await;
            progress.lease();
            (top, member, told, is_open)
        };
        let mut renewals = stream::iter(members.into_iter().map(renew)).buffer_unordered(OBJECTS_AT_ONCE);
        while let Some((top, member, told, is_open)) = renewals.next().await {
            match told {
                Ok(told) => drop(renewed.insert(member, told)),
                Err(LeaseChangeError::Unknown) if is_open => {}
                Err(error) => drop(failed.insert(top, error)),
            }
        }
        drop(renewals);
        Ok((renewed, failed))
    }

    /// Returns the objects that a renewal would end sooner than they do now, and when they end now; none for never.
    /// What the index does not list, nodes tell. What cannot be renewed is none of them.
    pub async fn ends_sooner(&self, locators: &BTreeSet<Locator>, renewal: &Renewal) -> BTreeMap<Locator, Option<u64>> {
        let renewal = Renewal { sooner: Sooner::Refused, ..renewal.clone() };
        let (now, patience, mut sooner) = (self.now(), Patience::begin(), BTreeMap::new());
        for (top, family) in self.families(locators).await {
            let entries = family.iter().filter(|(_, entry)| entry.name.is_none());
            let mut held: Vec<_> = entries.map(|(member, entry)| (*member, entry.tenure.retention)).collect();
            if family.is_empty()
                && let Ok(record) = self.own_record(&top, &patience).await
                && record.lease.is_alive(now)
                && !record.public.is_name()
            {
                held.push((top, record.lease.retention));
            }
            for (member, held) in held {
                if let Err(LeaseChangeError::Sooner { held, .. }) = renewal.retention_over(held, now) {
                    sooner.insert(member, held);
                }
            }
        }
        sooner
    }

    async fn check_renewal(
        &self,
        top: &Locator,
        family: &Family,
        renewal: &Renewal,
        patience: &Patience,
    ) -> Result<(), LeaseChangeError> {
        let now = self.now();
        for entry in family.values() {
            if entry.state == State::Ending {
                return Err(LeaseChangeError::Ending);
            }
            if entry.name.is_some() {
                return Err(LeaseChangeError::Name);
            }
            renewal.retention_over(entry.tenure.retention, now)?;
        }
        let Some(profile) = renewal.profile else { return Ok(()) };
        let check = |member: Locator| async move {
            let record = self.record_to_renew(&member, family.get(&member), patience).await?;
            redundancy_under(profile, &record, family.get(&member)).map(drop)
        };
        let members: BTreeSet<_> = family.keys().chain([top]).copied().collect();
        let mut checks = stream::iter(members.into_iter().map(check)).buffer_unordered(OBJECTS_AT_ONCE);
        while let Some(checked) = checks.next().await {
            checked?;
        }
        Ok(())
    }

    async fn renew_member(
        &self,
        member: &Locator,
        entry: Option<Entry>,
        renewal: &Renewal,
        patience: &Patience,
    ) -> Result<Told, LeaseChangeError> {
        // What a node holds may be far above what most of them show.
        let (mut known, mut tries) = (0, 1);
        let (tenure, told) = loop {
            let record = self.record_to_renew(member, entry.as_ref(), patience).await?;
            match self.renew_one(&record, entry.as_ref(), known, renewal, patience).await {
                Err(LeaseChangeError::Overtaken { version }) if tries < TRIES_MAX => {
                    (known, tries) = (known.max(version), tries + 1);
                }
                done => break done?,
            }
        };
        if let Some(entry) = entry {
            self.record(Change::Lease(Entry { tenure, ..entry })).await?;
        }
        Ok(told)
    }

    /// Reads the record that a renewal goes on from. Where most nodes have lost it, any that has it will do.
    async fn record_to_renew(
        &self,
        member: &Locator,
        entry: Option<&Entry>,
        patience: &Patience,
    ) -> Result<Record, LeaseChangeError> {
        match self.own_record(member, patience).await {
            Err(LeaseChangeError::Unknown) => {
                let found = self.left_over(member, entry, patience).await?;
                found.map(|(record, _)| record).ok_or(LeaseChangeError::Unknown)
            }
            read => read,
        }
    }

    async fn renew_one(
        &self,
        record: &Record,
        entry: Option<&Entry>,
        known: u64,
        renewal: &Renewal,
        patience: &Patience,
    ) -> Result<(Tenure, Told), LeaseChangeError> {
        if record.lease.erased {
            return Err(LeaseChangeError::Erased);
        }
        if record.public.is_name() {
            return Err(LeaseChangeError::Name);
        }
        // Nodes may all hold an older lease than the index knows: what was promised since then stays so.
        let held = match entry {
            Some(entry) if entry.tenure.version > record.lease.version => entry.tenure.lease(record.lease.clone()),
            _ => record.lease.clone(),
        };
        // The clock is read for each: in a large tree the first member was renewed long ago.
        let now = self.now();
        let retention = renewal.retention_over(held.retention, now)?;
        let caps = &renewal.caps;
        if let Some(cap) =
            caps.iter().enumerate().find(|(at, cap)| caps[..*at].iter().any(|other| other.level == cap.level))
        {
            return Err(LeaseChangeError::Caps { level: cap.1.level });
        }
        let tenure = Tenure {
            version: next_version(&held, entry).max(known.saturating_add(1)),
            profile: match renewal.profile {
                Some(profile) => redundancy_under(profile, record, entry)?,
                None => held.profile,
            },
            policy: renewal.policy.clone().unwrap_or_else(|| held.policy.clone()),
            wanted: held.wanted.clone(),
            refused: held.refused.clone(),
            caps: renewal.caps_over(&held.caps),
            retention,
        };
        retention::check_end(tenure.retention, now)?;
        let told = self.tell(record, tenure.lease(held), &BTreeSet::new(), patience).await?;
        Ok((tenure, told))
    }
}

/// Returns the profile to write into the lease: the one asked for, or its redundancy in numbers when that is less than
/// the object was stored with.
fn redundancy_under(profile: Profile, record: &Record, entry: Option<&Entry>) -> Result<Profile, LeaseChangeError> {
    let Some(stored) = record.public.redundancy() else { return Ok(profile) };
    let asked = match (profile, entry) {
        (Profile::Custom(redundancy), _) => redundancy,
        (named, Some(entry)) => named.redundancy(entry.length).unwrap_or(stored),
        (_, None) => return Err(LeaseChangeError::Length),
    };
    if asked.data() != stored.data() {
        return Err(LeaseChangeError::OtherData { asked, stored });
    }
    if asked.parity() == 0 && stored.parity() > 0 {
        return Err(LeaseChangeError::NoParity { stored });
    }
    match asked.parity().cmp(&stored.parity()) {
        Ordering::Less => Ok(Profile::Custom(asked)),
        Ordering::Equal => Ok(profile),
        Ordering::Greater => Err(LeaseChangeError::MoreParity { asked, stored }),
    }
}

fn next_version(held: &Lease, entry: Option<&Entry>) -> u64 {
    held.version.max(entry.map_or(0, |entry| entry.tenure.version)).saturating_add(1)
}
