//! One upload as the owner's index records it.

use std::{collections::BTreeSet, fmt};

use format::{
    Cap, Capability, Domain, Kind, Label, Lease, Level, Locator, ManifestHash, ObjectId, PolicyName, Profile, Record,
    Retention,
    cbor::{CborError, Fields, FieldsWriter},
    limits::{LEASE_PLACES_MAX, MIME_BYTES_MAX, POLICY_NAME_BYTES_MAX, TAG_NAME_BYTES_MAX, TAGS_MAX},
};

/// Longest path in the tree that one `put` stored, in bytes: Linux's `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4096;
/// Largest encoded entry, in bytes: the texts above, two lists of places, and small numbers.
pub(crate) const ENTRY_BYTES_MAX: usize = 32 * 1024;
const PLACE_BYTES_MAX: usize = 80;
const TAG_LIST_BYTES_MAX: usize = TAGS_MAX * (TAG_NAME_BYTES_MAX + 2) + 3;
const _: () = assert!(
    2 * LEASE_PLACES_MAX * PLACE_BYTES_MAX
        + PATH_BYTES_MAX
        + MIME_BYTES_MAX
        + TAG_LIST_BYTES_MAX
        + NAME_BYTES_MAX
        + 512
        < ENTRY_BYTES_MAX
);

/// Keys of the CBOR map.
mod key {
    pub(super) const CAPABILITY: u64 = 0;
    pub(super) const STATE: u64 = 1;
    pub(super) const PATH: u64 = 2;
    pub(super) const LENGTH: u64 = 3;
    pub(super) const MIME: u64 = 4;
    pub(super) const KIND: u64 = 5;
    pub(super) const CREATED: u64 = 6;
    pub(super) const POLICY: u64 = 7;
    pub(super) const PROFILE: u64 = 8;
    pub(super) const LEASE_VERSION: u64 = 9;
    pub(super) const WANTED: u64 = 10;
    pub(super) const REFUSED: u64 = 11;
    pub(super) const KEEP_UNTIL: u64 = 12;
    pub(super) const EXPIRES: u64 = 13;
    pub(super) const BATCH: u64 = 14;
    pub(super) const PLACE_IN_BATCH: u64 = 15;
    pub(super) const CAPS: u64 = 16;
    pub(super) const TAGS: u64 = 17;
    pub(super) const NAME: u64 = 18;
    pub(super) const HASHES: u64 = 19;
}

/// Keys of the CBOR map of a stable name, inside an entry.
mod name_key {
    pub(super) const FRESH_UNTIL: u64 = 0;
    pub(super) const SECONDS: u64 = 1;
    pub(super) const MOVES: u64 = 2;
}

/// How far an upload got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Recorded just before the nodes are asked to commit, so that the name is not lost if the program dies then.
    Committing,
    /// Acknowledged as durable.
    Stored,
    /// Recorded just before nodes are told to erase it: they may have it still, or no more. It is never taken back, and
    /// another removal brings it to its end.
    Ending,
}

impl State {
    /// The number that stands for it in the index.
    fn number(self) -> u8 {
        match self {
            Self::Committing => 0,
            Self::Stored => 1,
            Self::Ending => 2,
        }
    }

    fn of(number: u8) -> Result<Self, CborError> {
        let unknown = CborError::Value { key: key::STATE, expected: "0, 1 or 2" };
        [Self::Committing, Self::Stored, Self::Ending].into_iter().find(|it| it.number() == number).ok_or(unknown)
    }
}

/// The id of the `put` that stored an entry. Removing a tree removes every entry of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Batch(pub [u8; 16]);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether an entry is the file or directory that `put` was asked to store, or something inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The file or directory that was asked for.
    Top,
    /// Something inside that directory.
    Inner,
}

/// Moves of a stable name that its entry remembers.
pub const MOVES_MAX: usize = 64;
/// version u64 ‖ at u64 ‖ target 32 B, little endian.
const MOVE_BYTES: usize = 8 + 8 + 32;
const NAME_BYTES_MAX: usize = MOVES_MAX * MOVE_BYTES + 64;

/// Where a stable name points, and where it pointed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameState {
    /// Seconds since 1970 after which no edge follows the pointer.
    pub fresh_until: u64,
    /// Seconds for which an answer under the name may be kept.
    pub seconds: u32,
    /// The newest [`MOVES_MAX`] moves that nodes took, the last of them in force; none while the first is under way.
    pub moves: Vec<Move>,
}

/// One move of a stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The version of the lease that brought it.
    pub version: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The object that the name stands for since then. Its capability is in its own entry, so that it is forgotten with
    /// the object.
    pub target: Locator,
}

/// One upload, or one stable name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The capability, which finds, opens and authenticates the object.
    pub capability: Capability,
    /// How far it got.
    pub state: State,
    /// The name of the file or folder; for an entry inside a folder, that folder's name and the path from it.
    pub path: String,
    /// Plaintext bytes.
    pub length: u64,
    /// Media type.
    pub mime: String,
    /// File or directory.
    pub kind: Kind,
    /// Seconds since 1970 when it was stored.
    pub created: u64,
    /// Names of its tags.
    pub tags: BTreeSet<String>,
    /// The owner's part of the lease last sent to nodes.
    pub tenure: Tenure,
    /// The `put` it belongs to.
    pub batch: Batch,
    /// Its position in that `put`.
    pub position: Position,
    /// What the lease names, of an object that lies inline in its record: with it the lease is ended without a look at
    /// the record. `None` for others, whose shards the record tells, and in an index of before.
    pub hashes: Option<Hashes>,
    /// For a stable name, where it points. `path` is then what the owner calls it; length, type and kind are those of
    /// the object.
    pub name: Option<NameState>,
}

/// The manifests that a lease names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// BLAKE3 of the public manifest.
    pub object: ObjectId,
    /// BLAKE3 of the sealed manifest.
    pub manifest: ManifestHash,
}

impl Hashes {
    /// Returns what the lease of a record names, when the object lies inline in the record.
    #[must_use]
    pub fn of_inline(record: &Record) -> Option<Self> {
        let is_inline = record.public.redundancy().is_none() && !record.public.is_name();
        is_inline.then_some(Self { object: record.lease.object, manifest: record.lease.manifest })
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let expected = CborError::Value { key: key::HASHES, expected: "64 bytes" };
        let [object, manifest] = bytes.as_chunks::<32>().0 else { return Err(expected) };
        if bytes.len() != 64 {
            return Err(expected);
        }
        Ok(Self { object: ObjectId(*object), manifest: ManifestHash(*manifest) })
    }
}

/// The part of a lease that the owner chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tenure {
    /// Version of the lease last sent.
    pub version: u64,
    /// Redundancy.
    pub profile: Profile,
    /// Policy.
    pub policy: PolicyName,
    /// Shards may lie only in these places. Empty: anywhere.
    pub wanted: Vec<Domain>,
    /// Shards may lie in none of these places.
    pub refused: Vec<Domain>,
    /// How many shards may lie in one place; at most one cap for each level.
    pub caps: Vec<Cap>,
    /// How long the object stays.
    pub retention: Retention,
}

impl Tenure {
    /// Returns where shards may lie, one text for each place, with `!` in front of those where they may not.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let refused = self.refused.iter().map(|domain| format!("!{domain}"));
        self.wanted.iter().map(ToString::to_string).chain(refused).collect()
    }

    /// Returns `lease`, of whichever object, with the owner's part from here: what to sign and send to nodes.
    #[must_use]
    pub fn lease(&self, lease: Lease) -> Lease {
        Lease {
            version: self.version,
            profile: self.profile,
            wanted: self.wanted.clone(),
            refused: self.refused.clone(),
            retention: self.retention,
            policy: self.policy.clone(),
            caps: self.caps.clone(),
            ..lease
        }
    }
}

impl Entry {
    /// Returns the label of the object or the name.
    #[must_use]
    pub fn label(&self) -> Label {
        let of = if self.name.is_some() { Label::name } else { Label::open };
        of(self.capability.clone())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let texts = |domains: &[Domain]| domains.iter().map(ToString::to_string).collect::<Vec<_>>();
        let fields = FieldsWriter::default()
            .bytes(key::CAPABILITY, self.capability.expose())
            .uint(key::STATE, self.state.number())
            .text(key::PATH, &self.path)
            .uint(key::LENGTH, self.length)
            .text(key::MIME, &self.mime)
            .uint(key::KIND, u8::from(self.kind == Kind::Directory))
            .uint(key::CREATED, self.created)
            .text(key::POLICY, self.tenure.policy.as_str())
            .text(key::PROFILE, &self.tenure.profile.to_string())
            .uint(key::LEASE_VERSION, self.tenure.version)
            .texts(key::WANTED, &texts(&self.tenure.wanted))
            .texts(key::REFUSED, &texts(&self.tenure.refused))
            .uint(key::KEEP_UNTIL, self.tenure.retention.keep_until)
            .uint(key::EXPIRES, self.tenure.retention.expires)
            .bytes(key::BATCH, &self.batch.0)
            .uint(key::PLACE_IN_BATCH, u8::from(self.position == Position::Inner));
        let caps: Vec<String> = self.tenure.caps.iter().map(ToString::to_string).collect();
        let fields = if caps.is_empty() { fields } else { fields.texts(key::CAPS, &caps) };
        let tags: Vec<&String> = self.tags.iter().collect();
        let fields = if tags.is_empty() { fields } else { fields.texts(key::TAGS, &tags) };
        let fields = match &self.hashes {
            None => fields,
            Some(Hashes { object, manifest }) => fields.bytes(key::HASHES, &[object.0, manifest.0].concat()),
        };
        match &self.name {
            None => fields.finish(),
            Some(name) => fields.bytes(key::NAME, &name.encode()).finish(),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(bytes, ENTRY_BYTES_MAX)?;
        let state = State::of(fields.uint(key::STATE)?)?;
        let mut flag = |key| match fields.uint::<u8>(key)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CborError::Value { key, expected: "0 or 1" }),
        };
        let (directory, inner) = (flag(key::KIND)?, flag(key::PLACE_IN_BATCH)?);
        let entry = Self {
            capability: Capability::from_bytes(fields.array32(key::CAPABILITY)?),
            state,
            path: fields.text(key::PATH, PATH_BYTES_MAX)?.to_owned(),
            length: fields.uint(key::LENGTH)?,
            mime: fields.text(key::MIME, MIME_BYTES_MAX)?.to_owned(),
            kind: if directory { Kind::Directory } else { Kind::File },
            created: fields.uint(key::CREATED)?,
            tags: read_tags(&mut fields)?,
            tenure: Tenure {
                version: fields.uint(key::LEASE_VERSION)?,
                profile: parse(fields.text(key::PROFILE, 32)?, key::PROFILE, "a profile")?,
                policy: parse(fields.text(key::POLICY, POLICY_NAME_BYTES_MAX)?, key::POLICY, "a policy name")?,
                wanted: read_domains(&mut fields, key::WANTED)?,
                refused: read_domains(&mut fields, key::REFUSED)?,
                caps: read_caps(&mut fields)?,
                retention: Retention { keep_until: fields.uint(key::KEEP_UNTIL)?, expires: fields.uint(key::EXPIRES)? },
            },
            batch: Batch(
                fields
                    .bytes(key::BATCH)?
                    .try_into()
                    .map_err(|_| CborError::Value { key: key::BATCH, expected: "16 bytes" })?,
            ),
            position: if inner { Position::Inner } else { Position::Top },
            hashes: fields.has(key::HASHES).then(|| Hashes::decode(fields.bytes(key::HASHES)?)).transpose()?,
            name: fields.has(key::NAME).then(|| NameState::decode(fields.bytes(key::NAME)?)).transpose()?,
        };
        // Rewriting the index would drop what a later version says of an upload.
        match fields.unknown().first_key() {
            Some(key) => Err(CborError::Value { key, expected: "a key that this program knows" }),
            None => Ok(entry),
        }
    }

    /// Returns the entry as the index keeps it: of a name's moves the newest [`MOVES_MAX`].
    pub(crate) fn trimmed(mut self) -> Self {
        if let Some(name) = &mut self.name {
            name.moves.drain(..name.moves.len().saturating_sub(MOVES_MAX));
        }
        self
    }
}

impl NameState {
    fn encode(&self) -> Vec<u8> {
        let bytes = |it: &Move| [&it.version.to_le_bytes()[..], &it.at.to_le_bytes(), it.target.as_bytes()].concat();
        FieldsWriter::default()
            .uint(name_key::FRESH_UNTIL, self.fresh_until)
            .uint(name_key::SECONDS, self.seconds)
            .bytes(name_key::MOVES, &self.moves.iter().flat_map(bytes).collect::<Vec<u8>>())
            .finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(bytes, NAME_BYTES_MAX)?;
        let (moves, rest) = fields.bytes(name_key::MOVES)?.as_chunks::<MOVE_BYTES>();
        if moves.len() > MOVES_MAX || !rest.is_empty() {
            return Err(CborError::Value { key: name_key::MOVES, expected: "at most 64 moves" });
        }
        let read = |bytes: &[u8; MOVE_BYTES]| {
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight"));
            Move {
                version: number(0),
                at: number(8),
                target: Locator(bytes[16..].try_into().expect("the rest are 32 bytes")),
            }
        };
        Ok(Self {
            fresh_until: fields.uint(name_key::FRESH_UNTIL)?,
            seconds: fields.uint(name_key::SECONDS)?,
            moves: moves.iter().map(read).collect(),
        })
    }
}

fn parse<T: std::str::FromStr>(text: &str, key: u64, expected: &'static str) -> Result<T, CborError> {
    text.parse().map_err(|_| CborError::Value { key, expected })
}

/// An entry without tags has no such key.
fn read_tags(fields: &mut Fields<'_>) -> Result<BTreeSet<String>, CborError> {
    if !fields.has(key::TAGS) {
        return Ok(BTreeSet::new());
    }
    Ok(fields.texts(key::TAGS, TAGS_MAX)?.into_iter().map(str::to_owned).collect())
}

/// An entry without caps has no such key.
fn read_caps(fields: &mut Fields<'_>) -> Result<Vec<Cap>, CborError> {
    if !fields.has(key::CAPS) {
        return Ok(Vec::new());
    }
    let texts = fields.texts(key::CAPS, Level::ALL.len())?;
    texts.into_iter().map(|text| parse(text, key::CAPS, "caps")).collect()
}

fn read_domains(fields: &mut Fields<'_>, key: u64) -> Result<Vec<Domain>, CborError> {
    let texts = fields.texts(key, LEASE_PLACES_MAX)?;
    texts.into_iter().map(|text| parse(text, key, "places")).collect()
}
