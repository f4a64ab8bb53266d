//! Both ways of reading a request, [`head`](super::head) and [`request`](super::request), agree on every one that the
//! first of them takes: what a fuzz target tries.

use httparse::{EMPTY_HEADER, Status};

use super::{
    head::{Begun, COMMON_FIELDS_MAX, CONDITIONS, ROOM, Wants, begun, read},
    request::{Intake, Request},
};

/// Where a fuzz target's bytes are cut.
const CUTS_TRIED_MAX: usize = 64;

/// The body of the fuzz target `request_head`: bytes that a connection begins with, in two pieces. What is taken as a
/// common request is one to httparse too, which has all bytes and more room, and to the way of all other requests, and
/// each of them reads the same in it.
pub fn fuzz(bytes: &[u8]) {
    let common = |seen| match begun(bytes, seen) {
        Begun::Whole(end) => Some(end).filter(|end| read(&bytes[..*end], &mut ROOM.clone()).is_some()),
        Begun::Incomplete | Begun::Other => None,
    };
    for cut in 0..bytes.len().min(CUTS_TRIED_MAX) {
        let seen = match begun(&bytes[..cut], 0) {
            Begun::Incomplete => common(cut),
            Begun::Whole(end) => Some(end).filter(|_| common(0).is_some()),
            Begun::Other => None,
        };
        assert_eq!(seen, common(0), "cut at {cut}");
    }
    let Some(end) = common(0) else { return };
    let mut room = ROOM;
    let Some(head) = read(&bytes[..end], &mut room) else { return };

    let mut fields = [EMPTY_HEADER; 4 * COMMON_FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(bytes), Ok(Status::Complete(end)));
    assert_eq!((theirs.version, theirs.method), (Some(1), Some(head.method.as_str())));
    assert_eq!(&*theirs.headers, head.fields);
    let target = theirs.path.unwrap_or_default();
    let is_absolute = !target.starts_with('/');
    assert!(!is_absolute || target.starts_with("http"), "{target}");
    let values = |name: &str| {
        let named = theirs.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect::<Vec<_>>()
    };
    assert_eq!(values("host").len(), 1);
    if !is_absolute {
        assert_eq!((target, values("host")[0]), (head.target, head.host.as_bytes()));
    }
    for name in ["content-length", "transfer-encoding", "expect"] {
        assert!(values(name).is_empty(), "{name} is left to others");
    }
    let options = values("connection").concat().to_ascii_lowercase();
    let closes = options.windows(5).any(|option| option == b"close");
    assert_eq!(closes, head.closes);
    let conditions = CONDITIONS.iter().flat_map(|name| values(name.as_str())).count();
    assert!(
        head.conditions().is_none_or(|taken| taken.len() == if head.wants == Wants::Whole { 0 } else { conditions })
    );
    assert!(conditions == 0 || head.wants != Wants::Whole);

    let peer = std::net::SocketAddr::from(([192, 0, 2, 7], 1));
    let Some(ours) = Request::common(&head, peer.ip(), false) else { return };
    let mut built = http::Request::builder().method(head.method.as_str()).uri(target);
    for field in &*theirs.headers {
        built = built.header(field.name, field.value);
    }
    let built = built.body(()).expect("what one way takes, the other takes").into_parts().0;
    let intake = Intake::read(&built, built.headers.clone(), target.as_bytes(), false, (peer.ip(), false));
    let same = matches!(intake, Intake::Ready(other) if ours.is_same(&other));
    assert!(same, "the other way refuses it, or reads something else in it: {target} {ours:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_the_corpus_is_survived() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/request_head");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 4);
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            fuzz(&bytes);
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
