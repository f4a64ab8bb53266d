//! CIDs that others published: the vectors of IPIP-0499 and of the specification of UnixFS.

use unixfs::{Importer, Profile};

/// The CID of a file, whose content comes in slices.
fn file(profile: Profile, slices: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut importer = Importer::new(profile);
    slices.into_iter().for_each(|slice| importer.write(slice.as_ref(), &mut ()));
    importer.finish(&mut ()).root.cid.to_string()
}

#[test]
fn a_small_file_is_that_of_ipip_0499() {
    assert_eq!(file(Profile::UNIXFS_V0_2015, ["hello world"]), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    let raw = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    assert_eq!(file(Profile::UNIXFS_V1_2025, ["hello world"]), raw);
    assert_eq!(file(Profile::NFT_CLASSIC, ["hello world"]), raw);
}
