//! An NFT's metadata (ERC-1155): JSON in which each file of the form has its place. With the files' links put there it
//! is a file, `metadata.json`, and the root of the DAG, in dag-cbor. Pure.
//!
//! Keeps true: keys keep their order, which the CID of `metadata.json` goes by. Unlike in JavaScript an integer above
//! 2^53 stays exact.

use std::fmt;

use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use unixfs::{Cid, Ipld, IpldError};

/// Integers that a float holds exactly.
const SAFE_MAX: f64 = 9_007_199_254_740_991.0;

/// A value of JSON, or a link in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Metadata {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(IndexMap<String, Self>),
    /// A folder with one file.
    Link {
        folder: Cid,
        name: String,
    },
}

/// Why a file has no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    /// Something else is on the way.
    #[error(
        "`meta` has no place for the file {path:?}: what leads there is neither an object nor a list that is long enough"
    )]
    Way {
        /// The keys that lead there, with dots.
        path: String,
    },
    /// Two files.
    #[error("two files have the place {path:?}")]
    Twice {
        /// The keys that lead there, with dots.
        path: String,
    },
}

impl Metadata {
    /// Puts the link of a file to its place: keys with dots between them. Objects on the way are made.
    pub(super) fn put(&mut self, path: &str, link: Self) -> Result<(), NoPlace> {
        let mut at = self;
        for key in path.split('.') {
            if *at == Self::Null {
                *at = Self::Map(IndexMap::new());
            }
            at = at.below(key).ok_or_else(|| NoPlace::Way { path: path.to_owned() })?;
        }
        if matches!(at, Self::Link { .. }) {
            return Err(NoPlace::Twice { path: path.to_owned() });
        }
        *at = link;
        Ok(())
    }

    /// Returns what is under a key, made where there is nothing.
    fn below(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::List(values) => values.get_mut(key.parse::<usize>().ok()?),
            Self::Map(values) => Some(values.entry(key.to_owned()).or_insert(Self::Null)),
            _ => None,
        }
    }

    /// Returns the root of the DAG: the metadata with links to the files, and to the JSON of it.
    pub(super) fn root(&self, json: Cid) -> Result<Vec<u8>, IpldError> {
        let mut root = self.ipld();
        if let Ipld::Map(values) = &mut root {
            values.insert("metadata.json".to_owned(), Ipld::Link(json));
            values.insert("type".to_owned(), Ipld::Text("nft".to_owned()));
        }
        root.encode()
    }

    fn ipld(&self) -> Ipld {
        match self {
            Self::Null => Ipld::Null,
            Self::Bool(is) => Ipld::Bool(*is),
            Self::Signed(number) => Ipld::Signed(*number),
            Self::Unsigned(number) => Ipld::Unsigned(*number),
            Self::Float(number) => Ipld::Float(*number),
            Self::Text(text) => Ipld::Text(text.clone()),
            Self::List(values) => Ipld::List(values.iter().map(Self::ipld).collect()),
            Self::Map(values) => Ipld::Map(values.iter().map(|(key, value)| (key.clone(), value.ipld())).collect()),
            Self::Link { folder, .. } => Ipld::Link(*folder),
        }
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(is) => to.serialize_bool(*is),
            Self::Signed(number) => to.serialize_i64(*number),
            Self::Unsigned(number) => to.serialize_u64(*number),
            Self::Float(number) => to.serialize_f64(*number),
            Self::Text(text) => to.serialize_str(text),
            Self::List(values) => to.collect_seq(values),
            Self::Map(values) => to.collect_map(values),
            Self::Link { folder, name } => to.collect_str(&format_args!("ipfs://{folder}/{}", escaped(name))),
        }
    }
}

/// Writes a path as a URL of `ipfs:` has it, whose parser is not that of `http:` (WHATWG URL, path percent-encode set).
fn escaped(path: &str) -> impl fmt::Display + '_ {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const PATH: &AsciiSet =
        &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'^').add(b'`').add(b'{').add(b'}');
    utf8_percent_encode(path, PATH)
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Metadata;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Metadata, E> {
        Ok(Metadata::Null)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Metadata, E> {
        Ok(Metadata::Bool(is))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Metadata, E> {
        Ok(Metadata::Signed(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Metadata, E> {
        Ok(Metadata::Unsigned(number))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction, and is in bounds")]
    fn visit_f64<E>(self, number: f64) -> Result<Metadata, E> {
        // As JavaScript has it, in which 1.0 and 1 are one number.
        let is_whole = number.fract() == 0.0 && number.abs() <= SAFE_MAX;
        Ok(if is_whole { Metadata::Signed(number as i64) } else { Metadata::Float(number) })
    }

    fn visit_str<E>(self, text: &str) -> Result<Metadata, E> {
        Ok(Metadata::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Metadata, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element()? {
            values.push(value);
        }
        Ok(Metadata::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Metadata, A::Error> {
        let mut values = IndexMap::new();
        // The last of a key counts, at the place of the first, as in JavaScript.
        while let Some((key, value)) = from.next_entry()? {
            values.insert(key, value);
        }
        Ok(Metadata::Map(values))
    }
}

#[cfg(test)]
mod tests {
    use unixfs::Codec;

    use super::*;

    fn read(json: &str) -> Metadata {
        serde_json::from_str(json).unwrap()
    }

    fn link(name: &str) -> Metadata {
        Metadata::Link { folder: Cid::of(Codec::Raw, b"x"), name: name.to_owned() }
    }

    #[test]
    fn files_come_to_their_places_and_keys_keep_theirs() {
        let mut it = read(r#"{"z":1.0,"name":"cat","image":null,"a":[null,2],"n":0.5,"z":18446744073709551615}"#);
        for (path, name) in [("image", "a b.png"), ("a.0", "x.mp4"), ("properties.deep.file", "?#.txt")] {
            it.put(path, link(name)).unwrap();
        }
        let cid = Cid::of(Codec::Raw, b"x");
        let wanted = format!(
            r#"{{"z":18446744073709551615,"name":"cat","image":"ipfs://{cid}/a%20b.png","a":["ipfs://{cid}/x.mp4",2],"n":0.5,"properties":{{"deep":{{"file":"ipfs://{cid}/%3F%23.txt"}}}}}}"#
        );
        assert_eq!(serde_json::to_string(&it).unwrap(), wanted);
        for path in ["name.x", "a.2", "a.x", "n.0"] {
            assert_eq!(it.put(path, link("f")), Err(NoPlace::Way { path: path.to_owned() }));
        }
        assert_eq!(it.put("image", link("f")), Err(NoPlace::Twice { path: "image".to_owned() }));
        assert_eq!(it.put("image.x", link("f")), Err(NoPlace::Way { path: "image.x".to_owned() }));
    }

    #[test]
    fn the_root_links_to_the_files_and_to_the_json() {
        let mut it = read(r#"{"name":"cat","type":"other","image":null}"#);
        it.put("image", link("f")).unwrap();
        let cid = Cid::of(Codec::Raw, b"x");
        let text = |text: &str| Ipld::Text(text.to_owned());
        let values = [
            ("name", text("cat")),
            ("type", text("nft")),
            ("image", Ipld::Link(cid)),
            ("metadata.json", Ipld::Link(cid)),
        ];
        let wanted = Ipld::Map(values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        assert_eq!(it.root(cid).unwrap(), wanted.encode().unwrap());
    }
}
