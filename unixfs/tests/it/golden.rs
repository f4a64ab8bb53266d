//! CIDs that others published: the vectors of IPIP-0499, which Kubo's own tests make, and those of UnixFS.

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use unixfs::{Cid, Codec, Directory, Importer, Profile, Root};

/// What Kubo's tests take as content and names: the stream of `ChaCha20` under the SHA-256 of a word.
struct Stream(ChaCha20);

impl Stream {
    fn new(word: &str) -> Self {
        let key = Cid::of(Codec::Raw, word.as_bytes()).sha256().unwrap();
        Self(ChaCha20::new(&key.into(), &[0; 12].into()))
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = vec![0; bytes];
        self.0.apply_keystream(&mut taken);
        taken
    }

    /// A file name as Kubo's tests make it.
    fn name(&mut self, characters: usize) -> String {
        let alphabet = b"abcdefghijklmnopqrstuvwxyz01234567890-_";
        let draws = self.take(characters).into_iter();
        draws.map(|draw| char::from(alphabet[usize::from(draw) % alphabet.len()])).collect()
    }
}

fn file(profile: Profile, content: &str) -> Root {
    let mut importer = Importer::new(profile);
    importer.write(content.as_bytes(), &mut ());
    importer.finish(&mut ()).root
}

/// The CIDs of a file of so many chunks, and of one with a chunk more.
fn of_chunks(profile: Profile, word: &str, chunks: usize) -> [String; 2] {
    let (mut stream, mut importer) = (Stream::new(word), Importer::new(profile));
    for _ in 0..chunks {
        importer.write(&stream.take(profile.chunk_bytes()), &mut ());
    }
    let first = importer.clone().finish(&mut ());
    importer.write(&stream.take(profile.chunk_bytes()), &mut ());
    [first, importer.finish(&mut ())].map(|file| file.root.cid.to_string())
}

/// A directory of files with one character of content each; the last has a name of another length.
fn directory(profile: Profile, word: &str, files: usize, name: usize, last_name: usize) -> (String, bool) {
    let (mut stream, mut directory) = (Stream::new(word), Directory::new(profile));
    let content = file(profile, "x");
    for _ in 1..files {
        directory.insert(&stream.name(name), content).unwrap();
    }
    directory.insert(&stream.name(last_name), content).unwrap();
    let is_sharded = directory.is_sharded();
    (directory.finish(&mut ()).unwrap().cid.to_string(), is_sharded)
}

#[test]
fn a_small_file_is_that_of_ipip_0499() {
    let small = |profile| file(profile, "hello world").cid.to_string();
    assert_eq!(small(Profile::UNIXFS_V0_2015), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    let raw = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    assert_eq!(small(Profile::UNIXFS_V1_2025), raw);
    assert_eq!(small(Profile::NFT_CLASSIC), raw);
}

#[test]
fn files_at_the_width_and_over_it_are_those_of_ipip_0499() {
    let v0 = ["QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2", "QmepeWtdmS1hHXx1oZXsPUv6bMrfRRKfZcoPPU4eEfjnbf"];
    assert_eq!(of_chunks(Profile::UNIXFS_V0_2015, "v0-seed", 174), v0);
}

/// Hashes a GiB, which takes some seconds.
#[test]
fn files_of_a_gib_at_the_width_and_over_it_are_those_of_ipip_0499() {
    let v1 = [
        "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm",
        "bafybeihmzokxxjqwxjcryerhp5ezpcog2wcawfryb2xm64xiakgm4a5jue",
    ];
    assert_eq!(of_chunks(Profile::UNIXFS_V1_2025, "v1-2025-seed", 1024), v1);
}

#[test]
fn directories_at_the_threshold_and_over_it_are_those_of_ipip_0499() {
    let (v0, word) = (Profile::UNIXFS_V0_2015, "hamt-unixfs-v0-2015");
    let at = ("QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN".to_owned(), false);
    assert_eq!(directory(v0, word, 4096, 30, 30), at);
    let over = ("QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP".to_owned(), true);
    assert_eq!(directory(v0, word, 4033, 31, 31), over);
    let (v1, word) = (Profile::UNIXFS_V1_2025, "hamt-unixfs-v1-2025");
    let at = ("bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4".to_owned(), false);
    assert_eq!(directory(v1, word, 4766, 11, 21), at);
    let over = ("bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu".to_owned(), true);
    assert_eq!(directory(v1, word, 4766, 11, 22), over);
}

/// From boxo's test of its profiles.
#[test]
fn a_file_of_small_chunks_is_boxos() {
    let profile = Profile::UNIXFS_V1_2025.with_chunk_bytes(1000).unwrap();
    let cid = file(profile, &"a".repeat(3000)).cid.to_string();
    assert_eq!(cid, "bafybeiapp6tzng2hpxzmopnplvg6hoxldufypompu6uzmhc6rdyw4m2qx4");
}
