//! Golden vectors: `tests/golden/objects.txt` pins the bytes of the format for ever.
//!
//! `EVERNEAR_BLESS=1 cargo test -p format golden` rewrites the file. A changed line is a new version of the format,
//! never a fix of the test.

use std::fmt::Write;

use crate::noise::noise;
use data_encoding::HEXLOWER;
use format::{
    BlockIndex, Capability, Compression, Directory, EncoderOptions, Entry, Kind, Label, Object, OwnerSecret, Profile,
    PublicManifest, Suite,
};

use crate::made::{make, options};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn describe(out: &mut String, name: &str, profile: Profile, suite: Suite, bytes: &[u8], kind: Kind) {
    // Uncompressed: another zstd version may write other bytes, but it must read the old ones (the other test here).
    let made = make(bytes, EncoderOptions { compression: Compression::Off, ..options(profile, suite) }, kind);
    let label = Label::open(made.sealed.capability.clone());
    let strips: Vec<String> = made
        .stripes
        .iter()
        .map(|stripe| {
            let present = stripe.strips.iter().flatten().count();
            format!("{present}x{}", stripe.strips.iter().flatten().next().unwrap().len())
        })
        .collect();
    writeln!(out, "{name} {profile} suite {} {} bytes", suite.id(), bytes.len()).unwrap();
    writeln!(out, "  label   {label}").unwrap();
    writeln!(out, "  locator {}", made.locator()).unwrap();
    writeln!(out, "  oid     {}", made.sealed.public.id()).unwrap();
    writeln!(out, "  strips  {}", strips.join(" ")).unwrap();
    writeln!(out, "  all     {}", made.digest()).unwrap();
    assert_eq!(made.read(|_, _| true).unwrap(), bytes, "{name}");
}

fn vectors() -> String {
    let mut out = String::new();
    for (name, length) in [("empty", 0), ("one-byte", 1), ("inline-most", 16 * KIB), ("inline-plus-one", 16 * KIB + 1)]
    {
        describe(&mut out, name, Profile::Standard, Suite::ChaCha20Poly1305, &noise(length), Kind::File);
    }
    for suite in Suite::ALL {
        for profile in Profile::NAMED {
            for (name, length) in
                [("small", 100 * KIB), ("one-block", 256 * KIB), ("medium", 2 * MIB + 1), ("large", 5 * MIB + 777)]
            {
                describe(&mut out, name, profile, suite, &noise(length), Kind::File);
            }
        }
    }
    let four = "4+2".parse().unwrap();
    for (name, length) in [
        ("stripe", MIB),
        ("stripe-plus-one", MIB + 1),
        ("tail-1-column", MIB + 64 * KIB),
        ("tail-2-columns", MIB + 64 * KIB + 1),
        ("tail-4-columns-short", MIB + 200 * KIB),
        ("tail-4-columns-long", MIB + 1000 * KIB),
        ("two-stripes", 2 * MIB),
    ] {
        describe(&mut out, name, four, Suite::ChaCha20Poly1305, &noise(length), Kind::File);
    }
    let mut directory = Directory::default();
    for (name, byte) in [("index.html", 1), ("a", 2), ("é.png", 3)] {
        let capability = Capability::from_bytes([byte; 32]);
        let entry = Entry {
            capability,
            length: 5,
            mime: "text/html".into(),
            kind: Kind::File,
            below: Default::default(),
            unknown: Default::default(),
        };
        directory.insert(name, entry).unwrap();
    }
    // A directory, which knows one below it.
    let below = [("c".to_owned(), Capability::from_bytes([5; 32]))].into_iter().collect();
    let capability = Capability::from_bytes([4; 32]);
    let entry =
        Entry { capability, length: 7, mime: String::new(), kind: Kind::Directory, below, unknown: Default::default() };
    directory.insert("b", entry).unwrap();
    describe(&mut out, "directory", Profile::Standard, Suite::ChaCha20Poly1305, &directory.encode(), Kind::Directory);
    writeln!(out, "owner of 32 times 01\n  id      {}", OwnerSecret::from_bytes([1; 32]).keys().id()).unwrap();
    out
}

/// One compressed object as the first version wrote it: label, P, sealed M and the strip of its only block, in hex.
#[test]
fn a_compressed_block_of_the_first_version_is_read_for_ever() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/compressed.txt");
    let text = b"A block that compresses. ".repeat(1000);
    if std::env::var_os("EVERNEAR_BLESS").is_some() {
        let made = make(&text, options(Profile::Standard, Suite::Aes256Gcm), Kind::File);
        let strip = made.stripes[0].strips[0].as_ref().unwrap();
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let label = Label::open(made.sealed.capability.clone());
        let lines =
            format!("{label}\n{}\n{}\n{}\n", hex(made.sealed.public.encoded()), hex(&made.sealed.sealed), hex(strip));
        std::fs::write(path, lines).unwrap();
    }
    let pinned = std::fs::read_to_string(path).unwrap();
    let mut lines = pinned.lines();
    let label: Label = lines.next().unwrap().parse().unwrap();
    let [public, sealed, strip] = [(); 3].map(|()| HEXLOWER.decode(lines.next().unwrap().as_bytes()).unwrap());
    let public = PublicManifest::decode(public.into()).unwrap();
    let object = Object::from_manifests(label.capability(), &label.capability().locator(), public, &sealed).unwrap();
    assert!(strip.len() < 1000 && object.decode(BlockIndex(0), &strip).unwrap() == text);
}

#[test]
fn golden_vectors_are_what_they_were() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/objects.txt");
    let now = vectors();
    if std::env::var_os("EVERNEAR_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let pinned = std::fs::read_to_string(path).unwrap();
    for (line, (was, is)) in pinned.lines().zip(now.lines()).enumerate() {
        assert_eq!(was, is, "line {} of {path}", line + 1);
    }
    assert_eq!(pinned.lines().count(), now.lines().count());
}
