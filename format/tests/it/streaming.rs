//! The encoder accepts any chunking, fingerprint keys depend on the bytes, and objects refuse foreign manifests.

use crate::noise::noise;
use format::{
    Attributes, Compression, EncodeError, EncoderOptions, Fingerprint, Kind, Object, ObjectId, OpenError, Profile,
    Suite, hazmat,
};
use proptest::prelude::*;

use crate::made::{attributes, make, make_in_chunks, mixed, options};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunking_does_not_matter(length in 0usize..5_500_000, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let plain = mixed(length);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).collect();
        cuts.extend([0, length]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &plain[w[0]..w[1]]).collect();
        let options = options(Profile::Standard, Suite::Aes256Gcm);
        prop_assert_eq!(make_in_chunks(&chunks, options, Kind::File).digest(), make(&plain, options, Kind::File).digest());
    }
}

#[test]
fn equal_uploads_share_a_key_and_others_do_not() {
    let key = |bytes: &[u8], options: EncoderOptions, dedup: [u8; 32]| {
        encode_as_derived(bytes, bytes, options, dedup).unwrap()
    };
    let standard = options(Profile::Standard, Suite::Aes256Gcm);
    let (a, b) = (mixed(2_000_000), noise(2_000_000));
    assert_eq!(key(&a, standard, [1; 32]), key(&a, standard, [1; 32]));
    assert_ne!(key(&a, standard, [1; 32]), key(&a, standard, [2; 32]), "owners do not share");
    assert_ne!(key(&a, standard, [1; 32]), key(&b, standard, [1; 32]));
    let stored = key(&a, EncoderOptions { compression: Compression::Off, ..standard }, [1; 32]);
    // Where no engine compresses, the same bytes enter the AEAD.
    assert_eq!(key(&a, standard, [1; 32]) != stored, cfg!(feature = "native"), "other bytes enter the AEAD");
}

/// Encodes bytes with the encoder whose key was derived from others.
fn encode_as_derived(
    bytes: &[u8],
    from: &[u8],
    options: EncoderOptions,
    dedup: [u8; 32],
) -> Result<ObjectId, EncodeError> {
    let mut fingerprint = Fingerprint::new(options);
    from.chunks(100_000).try_for_each(|chunk| fingerprint.write(chunk))?;
    let mut encoder = fingerprint.finish(&dedup)?;
    let mut input = bytes;
    while encoder.write(&mut input)?.is_some() {}
    Ok(encoder.end().seal(attributes(Kind::File), [9; 32])?.public.id())
}

#[test]
fn a_derived_key_seals_no_other_bytes() {
    const MIB: usize = 1 << 20;
    let options = options("4+2".parse().unwrap(), Suite::Aes256Gcm);
    let all = noise(3 * MIB);
    let mut other = all.clone();
    other[2 * MIB - 1] ^= 1;
    let lengths = [0, 1, 16 * 1024, 16 * 1024 + 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB];
    for from in lengths {
        for bytes in lengths {
            let end = encode_as_derived(&all[..bytes], &all[..from], options, [1; 32]).map(drop);
            assert_eq!(end, if bytes == from { Ok(()) } else { Err(EncodeError::Changed) }, "{bytes} of {from}");
        }
        let end = encode_as_derived(&other[..from], &all[..from], options, [1; 32]).map(drop);
        assert_eq!(end, if from < 2 * MIB { Ok(()) } else { Err(EncodeError::Changed) }, "{from}");
    }
}

#[test]
fn objects_refuse_the_manifests_of_others() {
    let options = options(Profile::Standard, Suite::Aes256Gcm);
    let (a, b) = (make(&noise(50_000), options, Kind::File).sealed, make(&noise(50_001), options, Kind::File).sealed);
    let open = |of: &format::Sealed, public: &format::Sealed, sealed: &format::Sealed| {
        Object::from_manifests(&of.capability, &of.locator, public.public.clone(), &sealed.sealed)
            .map(|object| object.length())
    };
    assert_eq!(open(&a, &a, &a), Ok(50_000));
    assert!(matches!(open(&a, &b, &a), Err(OpenError::Seal(_))));
    assert!(matches!(open(&a, &a, &b), Err(OpenError::Seal(_))));
    assert!(matches!(open(&a, &b, &b), Err(OpenError::Seal(_))));
    let wrong = Object::from_manifests(&a.capability, &b.locator, b.public.clone(), &b.sealed).map(|o| o.length());
    assert_eq!(wrong, Err(OpenError::Locator));
}

#[test]
fn attributes_out_of_bounds_are_refused_before_anything_is_stored() {
    let encoder = || hazmat::encoder(options(Profile::Standard, Suite::Aes256Gcm), [1; 32]).end();
    let good = attributes(Kind::File);
    let long = "x".repeat(256);
    for bad in [
        Attributes { name: long.clone(), ..good.clone() },
        Attributes { mime: long.clone(), ..good.clone() },
        Attributes { tags: [(long, 1)].into(), ..good.clone() },
        Attributes { name: "Icon\r".into(), ..good.clone() },
        Attributes { mime: "text/plain\n".into(), ..good.clone() },
        Attributes { tags: [("\u{1b}[2J".into(), 1)].into(), ..good.clone() },
        Attributes { tags: (0..65).map(|i| (i.to_string(), i)).collect(), ..good.clone() },
    ] {
        assert!(encoder().seal(bad, [0; 32]).is_err());
    }
    assert!(encoder().seal(good, [0; 32]).is_ok());
}
