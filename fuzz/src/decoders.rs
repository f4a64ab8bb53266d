//! The bodies over `format`: every decoder of foreign bytes, and what must hold for whatever it lets through.
//!
//! Where bytes are sealed or signed, a body also plays the hostile writer who holds the key, so that what lies behind
//! the seal is reached too.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use format::{
    Attributes, BlockIndex, Capability, Cell, Compression, Directory, EncodedStripe, EncoderOptions, Kind, Label,
    Lease, ListProof, Object, OwnerKeys, OwnerSecret, Pointer, PolicyManifest, PublicManifest, Purge, Record, RowHash,
    RowList, Sealed, Signed, SigningDomain, StableName, Suite,
    hazmat::{self, Sealer},
    limits::{LEASE_BYTES_MAX, POINTER_SECONDS_MAX, POLICY_MANIFEST_BYTES_MAX, PURGE_BYTES_MAX, STRIP_BYTES_MAX},
    row_bytes,
    wire::{ShardSlice, frame_cells, read_cells},
};

/// One body.
pub type Body = fn(&[u8]);

/// The bodies under the names of their targets and folders of `corpus/`.
pub const BODIES: [(&str, Body); 15] = [
    ("directory", directory),
    ("label", label),
    ("lease", lease),
    ("list_proof", list_proof),
    ("pointer", pointer),
    ("policy_manifest", policy_manifest),
    ("public_manifest", public_manifest),
    ("purge", purge),
    ("record", record),
    ("sealed_block", sealed_block),
    ("sealed_manifest", sealed_manifest),
    ("shard_slice", shard_slice),
    ("strip", strip),
    ("cells", cells),
    ("whole_lease", whole_lease),
];

/// A label: what is read is written back the same, but for the case of its letters.
pub fn label(bytes: &[u8]) {
    if let Ok(label) = Label::parse(bytes) {
        assert_eq!(label.to_string().as_bytes(), bytes.to_ascii_lowercase());
    }
}

/// A record as nodes file it, its lease verified: what is read can be written and read again.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(&Bytes::copy_from_slice(bytes)) {
        let again = Record::decode(&record.encode().into()).expect("what was read can be written");
        assert_eq!(again.encode(), record.encode());
    }
}

/// A public manifest: whatever it says, its arithmetic stays in bounds.
pub fn public_manifest(bytes: &[u8]) {
    let Ok(public) = PublicManifest::decode(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(public.encoded(), bytes);
    for column in 0..=public.columns() {
        let rows = public.stripes() * row_bytes(public.row_columns()) as u64;
        let most = public.column_strips(column) * STRIP_BYTES_MAX as u64;
        assert!((rows..=rows + most).contains(&public.shard_bytes(column)) || column == public.columns());
    }
    assert_eq!(public.root().is_some(), public.stripes() > 0);
}

/// The body of a directory object.
pub fn directory(bytes: &[u8]) {
    if let Ok(directory) = Directory::decode(bytes) {
        assert_eq!(Directory::decode(&directory.encode()), Ok(directory));
    }
}

/// A lease in its envelope, as it comes from a node.
pub fn whole_lease(bytes: &[u8]) {
    let _ = Lease::open(bytes);
}

/// The payload of a lease, signed by its owner whatever it is: one meaning has one spelling.
pub fn lease(bytes: &[u8]) {
    let envelope = Signed::seal(owner(), SigningDomain::Lease, bytes);
    if let Ok(lease) = Lease::open(&envelope) {
        let again =
            Signed::open(&lease.sign(owner()), SigningDomain::Lease, LEASE_BYTES_MAX).expect("our own envelope");
        assert_eq!(again.payload, bytes);
    }
}

/// A policy manifest: its envelope, and its payload signed by its owner whatever it is.
pub fn policy_manifest(bytes: &[u8]) {
    let _ = PolicyManifest::open(bytes);
    let envelope = Signed::seal(owner(), SigningDomain::Policy, bytes);
    if let Ok(manifest) = PolicyManifest::open(&envelope) {
        let again = manifest.sign(owner());
        let again = Signed::open(&again, SigningDomain::Policy, POLICY_MANIFEST_BYTES_MAX).expect("our own envelope");
        assert_eq!(again.payload, bytes);
    }
}

/// An order to purge: its envelope, and its payload signed by its owner whatever it is.
pub fn purge(bytes: &[u8]) {
    let _ = Purge::open(bytes);
    let envelope = Signed::seal(owner(), SigningDomain::Purge, bytes);
    if let Ok(purge) = Purge::open(&envelope) {
        let again =
            Signed::open(&purge.sign(owner()), SigningDomain::Purge, PURGE_BYTES_MAX).expect("our own envelope");
        assert_eq!(again.payload, bytes);
    }
}

/// The answer to a shard read: cells of column 0 of 3.
pub fn shard_slice(bytes: &[u8]) {
    if let Ok(slice) = ShardSlice::read(Bytes::copy_from_slice(bytes), 3, 0, 64) {
        let parts = [vec![ShardSlice::head(&slice.proof)], frame_cells(&slice.cells)].concat();
        assert_eq!(parts.concat(), bytes);
    }
}

/// The body of an append: cells of column 1 of 3.
pub fn cells(bytes: &[u8]) {
    if let Ok(cells) = read_cells(Bytes::copy_from_slice(bytes), 3, 1, 64) {
        assert_eq!(frame_cells(&cells).concat(), bytes);
    }
}

/// A proof: `strips of the list - 1 u8 ‖ first u8 ‖ strips asked u8 ‖ proof`. What it proves is what the list says.
pub fn list_proof(bytes: &[u8]) {
    let Some(([last, first, asked], proof)) = bytes.split_first_chunk() else { return };
    let Some(proof) = ListProof::from_bytes(proof.to_vec()) else { return };
    let count = usize::from(*last) + 1;
    let range = usize::from(*first)..usize::from(*first) + usize::from(*asked);
    let list = list(count);
    if let Ok(hashes) = proof.verify(&list.root(), count, range.clone()) {
        assert_eq!(Some(&proof), list.prove(range.clone()).as_ref());
        assert!(hashes.into_iter().eq(range.filter_map(|strip| list.hash(strip))));
    }
}

/// The list that [`list_proof`] proves against.
#[must_use]
pub fn list(count: usize) -> RowList {
    let mut list = RowList::default();
    (0..count).for_each(|strip| list.push(RowHash::of(&strip.to_le_bytes())));
    list
}

/// A strip of the fixed object whose hash was forged: it opens into its own bytes or not at all.
pub fn strip(bytes: &[u8]) {
    for block in [0, 1].map(BlockIndex) {
        if let Ok(plain) = fixed().object.decode(block, bytes) {
            assert_eq!(plain.len(), block_bytes(block));
            let start = usize::try_from(block.0).expect("zero or one") * block_bytes(BlockIndex(0));
            assert!(plain.iter().eq(PLAIN.iter().cycle().skip(start).take(plain.len())));
        }
    }
}

/// What a hostile owner seals as a block: `codec u8 ‖ text`; before a frame comes the hash of what it inflates to. It
/// has the length that the layout says, or does not open.
pub fn sealed_block(bytes: &[u8]) {
    let Some((codec, text)) = bytes.split_first() else { return };
    if text.len() > 1024 * 1024 {
        return;
    }
    // docs/format.md, section 3: nonce = index, AAD = version ‖ suite ‖ codec ‖ index ‖ last.
    let aad = [1, SUITE.id(), *codec, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    let block = BlockIndex(1);
    let mut sealed = if *codec == 1 {
        let plain = zstd::bulk::decompress(text, block_bytes(block)).unwrap_or_default();
        [blake3::hash(&plain).as_bytes(), text].concat()
    } else {
        text.to_vec()
    };
    let tag = Sealer::new(SUITE, &DATA_KEY).seal([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &aad, &mut sealed);
    let length = u32::try_from(sealed.len() + tag.len()).expect("at most 1 MiB and a tag");
    let strip = [&[*codec, 0, 0, 0][..], &length.to_le_bytes(), &sealed, &tag].concat();
    if let Ok(plain) = fixed().object.decode(block, &strip) {
        assert_eq!(plain.len(), block_bytes(block));
    }
}

/// What a hostile owner seals as a manifest M, beside the public manifests of an object with shards and of an inline
/// one.
pub fn sealed_manifest(bytes: &[u8]) {
    // docs/format.md, section 2: the capability derives from M, and from it locator and key.
    let capability = Capability::of_manifest(bytes);
    let locator = capability.locator();
    let key = blake3::derive_key("evernear 2026 v1 manifest", capability.expose());
    for public in [&fixed().sealed.public, &fixed().inline.public] {
        let aad = [locator.as_bytes().as_slice(), public.id().as_bytes()].concat();
        let mut sealed = bytes.to_vec();
        let tag = Sealer::new(Suite::ChaCha20Poly1305, &key).seal([0; 12], &aad, &mut sealed);
        sealed.extend_from_slice(&tag);
        if let Ok(object) = Object::from_manifests(&capability, &locator, public.clone(), &sealed) {
            let held =
                object.inline().map_or(object.geometry().map_or(0, |it| it.length()), |inline| inline.len() as u64);
            assert_eq!(held, object.length());
        }
    }
}

/// A pointer: as a node sends it, and as the owner of the name seals it, who gets no other name's than their own.
pub fn pointer(bytes: &[u8]) {
    let (capability, public) = (name().capability(), name().public());
    let locator = name().locator();
    let _ = Pointer::from_sealed(capability, &locator, public, bytes);
    // docs/format.md, section 18.
    let salt = [0x7a; 32];
    let key = blake3::derive_key("evernear 2026 v1 pointer", capability.expose());
    let key = *blake3::keyed_hash(&key, &salt).as_bytes();
    let aad = [locator.as_bytes().as_slice(), public.id().as_bytes()].concat();
    let mut text = bytes.to_vec();
    let tag = Sealer::new(Suite::ChaCha20Poly1305, &key).seal([0; 12], &aad, &mut text);
    let sealed = [&salt[..], &text, &tag].concat();
    if let Ok(pointer) = Pointer::from_sealed(capability, &locator, public, &sealed) {
        assert!(pointer.seconds <= POINTER_SECONDS_MAX);
    }
}

/// A stable name of the owner.
pub fn name() -> &'static StableName {
    static NAME: LazyLock<StableName> =
        LazyLock::new(|| StableName::derive(&OwnerSecret::from_bytes([1; 32]), "site").expect("a good text"));
    &NAME
}

/// The owner who signs whatever the fuzzer makes.
pub fn owner() -> &'static OwnerKeys {
    static OWNER: LazyLock<OwnerKeys> = LazyLock::new(|| OwnerSecret::from_bytes([1; 32]).keys());
    &OWNER
}

const DATA_KEY: [u8; 32] = [0x5e; 32];
const SUITE: Suite = Suite::Aes256Gcm;
const PLAIN: &[u8] = b"A block that compresses. ";

/// The objects that the bodies try foreign bytes on: two blocks of 37,504 and 37,496 bytes over 2+1, and an inline one.
pub struct Fixed {
    /// The object with shards, opened.
    pub object: Object,
    /// The same, sealed.
    pub sealed: Sealed,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// The inline one.
    pub inline: Sealed,
}

/// Makes them once.
pub fn fixed() -> &'static Fixed {
    static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
        let (sealed, cells) = make(&PLAIN.repeat(3000));
        let (inline, _) = make(PLAIN);
        let Sealed { capability, locator, public, sealed: m, .. } = &sealed;
        let object = Object::from_manifests(capability, locator, public.clone(), m).expect("what was sealed opens");
        Fixed { object, sealed, cells, inline }
    });
    &FIXED
}

fn make(plain: &[u8]) -> (Sealed, Vec<Cell>) {
    let profile = "2+1".parse().expect("a profile");
    let options = EncoderOptions { profile, suite: SUITE, compression: Compression::Auto, owner: owner().id() };
    let mut ending = {
        let mut encoder = hazmat::encoder(options, DATA_KEY);
        let stripe = encoder.write(&mut &*plain).expect("it is small");
        assert!(stripe.is_none(), "less than a stripe");
        encoder.end()
    };
    let stripe = ending.stripe().expect("it is small");
    let cells = stripe.into_iter().flat_map(EncodedStripe::into_cells).collect();
    let attributes = Attributes {
        mime: "text/plain".into(),
        name: "made.txt".into(),
        created: 1_795_000_000,
        kind: Kind::File,
        tags: BTreeMap::from([("nft".into(), 7)]),
    };
    (ending.seal(attributes, [0x7a; 32]).expect("in bounds"), cells)
}

fn block_bytes(block: BlockIndex) -> usize {
    fixed().object.geometry().expect("it has shards").block_bytes(block)
}
