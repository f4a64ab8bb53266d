//! The sample configurations explain every key, because a package contains no other reference.

use std::{cell::RefCell, collections::BTreeSet, fmt::Debug};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor, value::Error},
    forward_to_deserialize_any,
};

const SAMPLES: [(&str, &str); 3] = [
    ("edge", include_str!("../../../edge/edge.sample.toml")),
    ("origin", include_str!("../../../origin/origin.sample.toml")),
    ("twin", include_str!("../../../twin/twin.sample.toml")),
];

/// A deserializer without values: it walks down a path of keys and records which keys the struct at its end asks for.
struct Probe<'p> {
    path: &'p [&'static str],
    asked: &'p RefCell<Vec<&'static str>>,
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Some((key, path)) = self.path.split_first() else {
            self.asked.borrow_mut().extend(fields);
            return Err(Error::custom("this far and no further"));
        };
        visitor.visit_map(Entry { key: Some(key), value: Some(Probe { path, ..self }) })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Entry { key: None, value: Some(self) })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// A table of one key, or a list of one value.
struct Entry<'p> {
    key: Option<&'static str>,
    value: Option<Probe<'p>>,
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key = self.key.take().map(serde::de::value::StrDeserializer::new);
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.value.take().unwrap())
    }
}

impl<'de> SeqAccess<'de> for Entry<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}

/// Returns all keys that a configuration knows, with their sections.
fn known<'de, T: Deserialize<'de>>(path: &[&'static str]) -> Vec<String> {
    let asked = RefCell::default();
    assert!(T::deserialize(Probe { path, asked: &asked }).is_err(), "a probe holds nothing");
    let mut all = Vec::new();
    for key in asked.into_inner() {
        let path = [path, &[key]].concat();
        all.push(path.join("."));
        all.extend(known::<T>(&path));
    }
    all
}

/// Returns the key of a setting.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_').then_some(key)
}

/// Returns the name of a section.
fn section(line: &str) -> Option<&str> {
    line.starts_with('[').then(|| line.trim_matches(['[', ']']))
}

/// Returns all keys and sections of a sample, including those that are commented out.
fn explained(sample: &'static str) -> BTreeSet<String> {
    let mut within = "";
    let mut all = BTreeSet::new();
    for line in sample.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(section) = section(line) {
            within = section;
            let parents = section.match_indices('.').map(|(dot, _)| section[..dot].to_owned());
            all.extend(parents.chain([section.to_owned()]));
        } else if let Some(key) = key(line) {
            all.insert(if within.is_empty() { key.to_owned() } else { format!("{within}.{key}") });
        }
    }
    all
}

#[test]
fn samples_have_every_key_and_no_other() {
    for ((name, sample), known) in SAMPLES.into_iter().zip([
        known::<edge::Config>(&[]),
        known::<origin::Config>(&[]),
        known::<twin::TwinConfig>(&[]),
    ]) {
        assert!(known.len() > 10, "{known:?}");
        let known: BTreeSet<String> = known.into_iter().collect();
        let explained = explained(sample);
        let missing: Vec<_> = known.difference(&explained).collect();
        let unknown: Vec<_> = explained.difference(&known).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{name}: missing {missing:?}, unknown {unknown:?}");
    }
}

/// Uncomments each commented-out setting alone, in sections that are not commented out. The result must be valid, and
/// must either change nothing or say what its absence means.
fn comments_are_defaults<T: for<'de> Deserialize<'de> + Debug>(name: &str, sample: &str) {
    let as_it_is = format!("{:?}", toml::from_str::<T>(sample).unwrap());
    let lines: Vec<&str> = sample.lines().collect();
    let mut is_example = false;
    for (at, line) in lines.iter().enumerate() {
        let bare = line.trim_start_matches(['#', ' ']);
        if section(bare).is_some() {
            is_example = bare != *line;
        }
        let Some(setting) = line.strip_prefix("# ").filter(|setting| !is_example && key(setting).is_some()) else {
            continue;
        };
        let mut with = lines.clone();
        with[at] = setting;
        let read = toml::from_str::<T>(&with.join("\n")).unwrap_or_else(|error| panic!("{name}: {setting}: {error}"));
        let mut above = lines[..at].iter().rev().take_while(|line| line.starts_with("# "));
        let says_absence = above.any(|line| line.contains("Absent:"));
        assert!(says_absence || format!("{read:?}") == as_it_is, "{name}: {setting} is not the default");
    }
}

#[test]
fn what_samples_comment_out_is_the_default() {
    let [(_, edge), (_, origin), (_, twin)] = SAMPLES;
    comments_are_defaults::<edge::Config>("edge", edge);
    comments_are_defaults::<origin::Config>("origin", origin);
    comments_are_defaults::<twin::TwinConfig>("twin", twin);
}
