//! Where a film has its index, told from its beginning: the boxes of MP4 (ISO/IEC 14496-12 section 4.2), and of its
//! forerunner at Apple. Pure.
//!
//! No player shows anything before it has the index (`moov`). Cameras and encoders write it last, because only then do
//! they know what is in it: whoever plays such a film reads its beginning, then its end, then the beginning again.

use std::ops::Range;

use format::limits::BLOCK_BYTES;

/// Most bytes that are taken for the index: an hour of film has some 1 MiB.
const INDEX_BYTES_MAX: u64 = 1024 * 1024;
/// Boxes looked at. A film has a handful before its pictures.
const BOXES_MAX: usize = 64;

/// Whether a media type is that of a film, or a sound, made of boxes.
pub(crate) fn has_boxes(mime: &str) -> bool {
    let essence = mime.split(';').next().unwrap_or_default().trim();
    ["video/mp4", "video/quicktime", "video/x-m4v", "audio/mp4", "audio/x-m4a"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

/// Returns which bytes of a film of `length` bytes its index begins with, if its `beginning` tells that it lies behind
/// the pictures; in whole blocks, as far as there are such. None where the beginning has it, or is none of a film.
pub(crate) fn index_behind(beginning: &[u8], length: u64) -> Option<Range<u64>> {
    let (mut at, mut is_behind) = (0_u64, false);
    for number in 0..BOXES_MAX {
        let Some(header) = usize::try_from(at).ok().and_then(|at| beginning.get(at..)).and_then(Header::read) else {
            // What is here lies beyond the beginning: the index, or, where there were no pictures yet, anything.
            let from = if is_behind { at } else { at.max(length.saturating_sub(BLOCK_BYTES as u64)) };
            let from = from - from % BLOCK_BYTES as u64;
            let range = from..length.min(from.saturating_add(INDEX_BYTES_MAX));
            return (number > 0 && at < length).then_some(range);
        };
        match &header.kind {
            b"moov" => return None,
            b"mdat" => is_behind = true,
            b"ftyp" => {}
            _ if number == 0 => return None,
            _ => {}
        }
        at = header.bytes.and_then(|bytes| bytes.checked_add(at))?;
    }
    None
}

/// The header of a box.
struct Header {
    kind: [u8; 4],
    /// Of the whole box; none where it goes on to the end of the file, or says what cannot be.
    bytes: Option<u64>,
}

impl Header {
    /// Reads the header of a box; none where not all of it is there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (bytes, least) = match u32::from_be_bytes(*size) {
            1 => (u64::from_be_bytes(*rest.first_chunk()?), 16),
            size => (size.into(), 8),
        };
        Some(Self { kind: *kind, bytes: Some(bytes).filter(|bytes| *bytes >= least) })
    }
}

/// The body of the fuzz target `film_index`: the length of a film, and its beginning.
pub fn fuzz(bytes: &[u8]) {
    let Some((length, beginning)) = bytes.split_first_chunk() else { return };
    let length = u64::from_le_bytes(*length);
    if let Some(index) = index_behind(beginning, length) {
        assert!(index.start < index.end && index.end <= length, "{index:?} of {length}");
        assert!(index.end - index.start <= INDEX_BYTES_MAX);
        assert_eq!(index.start % BLOCK_BYTES as u64, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    fn short(kind: &[u8; 4], bytes: u32) -> Vec<u8> {
        [&bytes.to_be_bytes()[..], kind].concat()
    }

    fn long(kind: &[u8; 4], bytes: u64) -> Vec<u8> {
        [&short(kind, 1)[..], &bytes.to_be_bytes()].concat()
    }

    fn ftyp() -> Vec<u8> {
        [short(b"ftyp", 16), vec![b'x'; 8]].concat()
    }

    fn film(boxes: &[Vec<u8>]) -> Vec<u8> {
        [ftyp(), boxes.concat()].concat()
    }

    #[test]
    fn an_index_behind_the_pictures_is_found_by_their_size() {
        let free = [short(b"free", 8), short(b"wide", 8)].concat();
        for (boxes, at) in [
            (vec![short(b"mdat", 5_000_000)], 5_000_016),
            (vec![free, long(b"mdat", 5_000_000_000)], 5_000_000_032),
            (vec![long(b"mdat", 3 * BLOCK - 16)], 3 * BLOCK),
            (vec![long(b"mdat", 3 * BLOCK - 17)], 3 * BLOCK - 1),
        ] {
            let found = index_behind(&film(&boxes), at + 1_000);
            assert_eq!(found, Some(at - at % BLOCK..at + 1_000), "at {at}");
            let long = index_behind(&film(&boxes), at + (9 << 20)).unwrap();
            assert_eq!(long, at - at % BLOCK..at - at % BLOCK + (1 << 20), "no more than 1 MiB of a long one");
            assert_eq!(index_behind(&film(&boxes), at + 1).map(|found| found.end), Some(at + 1));
            assert_eq!(index_behind(&film(&boxes), at), None, "nothing is behind them");
        }
    }

    #[test]
    fn where_no_pictures_are_in_sight_it_is_looked_for_at_the_end() {
        let metadata = film(&[short(b"uuid", 600_000)]);
        assert_eq!(index_behind(&metadata, 10 * BLOCK), Some(9 * BLOCK..10 * BLOCK));
        assert_eq!(index_behind(&metadata, 10 * BLOCK + 5), Some(9 * BLOCK..10 * BLOCK + 5));
        assert_eq!(index_behind(&metadata, 600_017), Some(2 * BLOCK..600_017));
        assert_eq!(index_behind(&metadata, 600_016), None);
    }

    #[test]
    fn an_index_before_the_pictures_and_what_is_no_film_ask_for_nothing() {
        let length = 9_000_000;
        for (bytes, why) in [
            (film(&[short(b"moov", 3_000), vec![0; 2_992], short(b"mdat", 8_000_000)]), "it lies before them"),
            (film(&[short(b"mdat", 16), vec![0; 8], short(b"moov", 100)]), "the beginning has all of it"),
            (film(&[short(b"mdat", 0)]), "pictures to the end of the file"),
            (film(&[short(b"mdat", 7)]), "a box smaller than its header"),
            (film(&[long(b"mdat", 15)]), "a large one, too"),
            (film(&[long(b"mdat", u64::MAX)]), "an end that no number tells"),
            (short(b"free", 100), "another box first"),
            (short(b"RIFF", 100), "no film"),
            (vec![], "nothing"),
            (vec![0; 7], "too little"),
            (film(&vec![short(b"free", 8); BOXES_MAX]), "boxes without an end"),
        ] {
            assert_eq!(index_behind(&bytes, length), None, "{why}");
        }
        let many = film(&[short(b"free", 8).repeat(BOXES_MAX - 3), short(b"mdat", 8_000_000)]);
        assert!(index_behind(&many, length).is_some(), "the last that is looked at counts");
    }

    #[test]
    fn an_index_near_the_last_number_ends_with_the_film() {
        let at = u64::MAX - 100;
        let found = index_behind(&film(&[long(b"mdat", at - 16)]), u64::MAX);
        assert_eq!(found, Some(at - at % BLOCK..u64::MAX));
    }

    #[test]
    fn films_are_told_by_their_type() {
        for mime in ["video/mp4", "Video/MP4; codecs=\"avc1\"", "video/quicktime", "audio/mp4", "audio/x-m4a"] {
            assert!(has_boxes(mime), "{mime}");
        }
        for mime in ["", "video/webm", "video/mp2t", "text/html", "application/mp4x"] {
            assert!(!has_boxes(mime), "{mime}");
        }
    }

    #[test]
    fn every_seed_of_the_corpus_is_survived() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/film_index");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 3);
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            for at in 0..bytes.len() {
                fuzz(&bytes[at..]);
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    fuzz(&changed);
                }
            }
        }
    }
}
