//! One connection of a catalog for as long as a call needs it, with or without a transaction.

use std::{future::Future, io, time::Duration};

use sqlx::{Error, Transaction, pool::PoolConnection};

use super::{Arg, Cells, Clock, Driver, SqlCatalog};
use crate::catalog::CatalogError;

/// Longest wait for one statement. Engines give up before; this is for those that do not answer at all.
pub(super) const CALL: Duration = Duration::from_secs(15);

/// A server's word that a lock was not to be had in time (`PostgreSQL`, appendix A).
const LOCKED: &str = "55P03";

/// A transaction.
pub(in crate::catalog) struct Session<D: Driver> {
    transaction: Transaction<'static, D>,
    pub(super) changes_kept: u32,
    clock: Option<Clock>,
}

/// A connection without a transaction: each statement stands for itself.
pub(super) struct Single<D: Driver> {
    connection: PoolConnection<D>,
    clock: Option<Clock>,
}

/// What only one transaction at a time may do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Alone<'a> {
    /// Deciding what a record becomes.
    Record(&'a [u8; 32]),
    /// Deciding what a policy becomes.
    Policy(&'a [u8; 32], &'a str),
    /// Deciding what a node becomes.
    Node(&'a str),
    /// Counting tickets and adding one.
    Tickets,
    /// Numbering a change.
    Feed,
}

impl Alone<'_> {
    /// Two that fall on one number only wait for each other without need.
    fn number(self) -> i64 {
        let mut hash = blake3::Hasher::new_derive_key("evernear 2026 v1 catalog lock");
        match self {
            Self::Record(locator) => hash.update(b"record").update(locator),
            Self::Policy(owner, name) => hash.update(b"policy").update(owner).update(name.as_bytes()),
            Self::Node(name) => hash.update(b"node").update(name.as_bytes()),
            Self::Tickets => hash.update(b"tickets"),
            Self::Feed => hash.update(b"feed"),
        };
        let hash = hash.finalize();
        i64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

impl<D: Driver> SqlCatalog<D> {
    /// Begins a transaction that writes.
    pub(super) async fn write(&self) -> Result<Session<D>, CatalogError> {
        self.catch_up().await?;
        let transaction = answer(self.writers.begin_with(D::WRITE)).await?;
        Ok(Session { transaction, changes_kept: self.changes_kept, clock: self.clock.clone() })
    }

    /// Begins a transaction whose reads are all of one moment.
    pub(super) async fn snapshot(&self) -> Result<Session<D>, CatalogError> {
        self.catch_up().await?;
        let transaction = answer(self.readers.begin_with(D::READ)).await?;
        Ok(Session { transaction, changes_kept: self.changes_kept, clock: self.clock.clone() })
    }

    /// Returns a connection for one statement that reads.
    pub(super) async fn reader(&self) -> Result<Single<D>, CatalogError> {
        self.catch_up().await?;
        Ok(Single { connection: answer(self.readers.acquire()).await?, clock: self.clock.clone() })
    }

    /// Returns a connection for one statement that writes: by itself it happens or not, so it needs no transaction.
    pub(super) async fn writer(&self) -> Result<Single<D>, CatalogError> {
        self.catch_up().await?;
        Ok(Single { connection: answer(self.writers.acquire()).await?, clock: self.clock.clone() })
    }

    async fn catch_up(&self) -> Result<(), CatalogError> {
        let Some(late) = &self.late else { return Ok(()) };
        match tokio::time::timeout(CALL, late.catch_up()).await {
            Ok(caught_up) => Ok(caught_up?),
            Err(_) => Err(Error::Io(io::ErrorKind::TimedOut.into()).into()),
        }
    }
}

/// The calls that [`Session`] and [`Single`] have in common.
macro_rules! calls {
    () => {
        /// Returns the rows of a statement.
        pub(super) async fn all(
            &mut self,
            statement: &'static str,
            args: &[Arg<'_>],
        ) -> Result<Vec<D::Row>, CatalogError> {
            let said = D::said(statement, self.clock.as_ref().map(|clock| clock()));
            answer(D::rows(self.connection(), said, args)).await
        }

        /// Returns the first row of a statement, if there is one.
        pub(super) async fn first(
            &mut self,
            statement: &'static str,
            args: &[Arg<'_>],
        ) -> Result<Option<D::Row>, CatalogError> {
            Ok(self.all(statement, args).await?.into_iter().next())
        }

        /// Returns the row of a statement that always has one.
        pub(super) async fn one(&mut self, statement: &'static str, args: &[Arg<'_>]) -> Result<D::Row, CatalogError> {
            Ok(self.first(statement, args).await?.ok_or(Error::RowNotFound)?)
        }

        /// Runs a statement and returns how many rows it wrote.
        pub(super) async fn run(&mut self, statement: &'static str, args: &[Arg<'_>]) -> Result<u64, CatalogError> {
            let said = D::said(statement, self.clock.as_ref().map(|clock| clock()));
            answer(D::run(self.connection(), said, args)).await
        }
    };
}

impl<D: Driver> Session<D> {
    calls!();

    fn connection(&mut self) -> &mut D::Connection {
        &mut self.transaction
    }

    /// Waits until no other transaction does this, and keeps others out until this one ends. Asked for before the first
    /// read that a decision rests on. Whoever asks for two asks for [`Alone::Feed`] last, so that none wait in a
    /// circle.
    pub(super) async fn alone(&mut self, what: Alone<'_>) -> Result<(), CatalogError> {
        if let Some(statement) = D::ALONE {
            self.all(statement, &[what.number().into()]).await?;
        }
        Ok(())
    }

    /// Does the same for several, at most [`WIDE_MAX`], of those that no other transaction does now. Waits for none, so
    /// they have no order. Returns for each whether this transaction does it alone.
    pub(super) async fn alone_if_free(&mut self, all: &[Alone<'_>]) -> Result<Vec<bool>, CatalogError> {
        let (Some(statement), [first, ..]) = (D::try_alone(), all) else { return Ok(vec![true; all.len()]) };
        let (statement, width) = statement.of(all.len());
        // Asked twice it is as free as at first.
        let number = |at| Arg::Number(all.get(at).unwrap_or(first).number());
        let row = self.one(statement, &(0..width).map(number).collect::<Vec<_>>()).await?;
        (0..all.len()).map(|at| Ok(row.number(at)? != 0)).collect()
    }

    /// Waits as [`Self::alone`] does, but only so long. False: another transaction does it still, and this one is of no
    /// more use.
    pub(super) async fn alone_within(&mut self, what: Alone<'_>, patience: Duration) -> Result<bool, CatalogError> {
        if D::ALONE.is_some() {
            self.all(D::ALONE_FOR, &[patience.as_millis().to_string().as_str().into()]).await?;
        }
        match self.alone(what).await {
            Ok(()) => {
                if D::ALONE.is_some() {
                    self.run(D::ALONE_AS_BEFORE, &[]).await?;
                }
                Ok(true)
            }
            Err(CatalogError::Unavailable(Error::Database(said))) if said.code().as_deref() == Some(LOCKED) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes what was written durable and visible.
    pub(super) async fn commit(self) -> Result<(), CatalogError> {
        answer(self.transaction.commit()).await
    }
}

impl<D: Driver> Single<D> {
    calls!();

    fn connection(&mut self) -> &mut D::Connection {
        &mut self.connection
    }
}

/// Waits for an engine's answer, but not for ever.
async fn answer<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, CatalogError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Io(io::ErrorKind::TimedOut.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_excludes_each_other_has_one_number_and_what_does_not_has_another() {
        let all = [
            Alone::Record(&[1; 32]),
            Alone::Record(&[2; 32]),
            Alone::Policy(&[1; 32], "a"),
            Alone::Policy(&[1; 32], "b"),
            Alone::Node("a"),
            Alone::Tickets,
            Alone::Feed,
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().enumerate().all(|(j, other)| (i == j) == (one.number() == other.number())));
        }
    }
}
