//! A minimal JSON parser, enough for `cargo metadata`.
//!
//! Place in the flow: `tidy` reads the workspace with it. It is our own, because xtask has no dependencies (see its
//! Cargo.toml). Keeps true: malformed or too deep input is `None`, never a panic.

/// How deeply arrays and objects may be nested; cargo's metadata is 8 deep.
const DEPTH_MAX: u8 = 64;

/// One JSON value. Numbers and booleans carry nothing: no caller asks for them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// A number or a boolean.
    Scalar,
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole document.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let value = reader.value(DEPTH_MAX)?;
        reader.skip_space();
        reader.rest.is_empty().then_some(value)
    }

    /// Returns an object's field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns the elements of a list; an empty slice for any other value.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::List(elements) => elements,
            _ => &[],
        }
    }

    /// Returns the text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: u8) -> Option<Json> {
        let depth = depth.checked_sub(1)?;
        self.skip_space();
        match self.rest.chars().next()? {
            '"' => self.text().map(Json::Text),
            '[' => self.list(depth),
            '{' => self.object(depth),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: u8) -> Option<Json> {
        let mut elements = Vec::new();
        self.take('[')?;
        while self.take(']').is_none() {
            if !elements.is_empty() {
                self.take(',')?;
            }
            elements.push(self.value(depth)?);
        }
        Some(Json::List(elements))
    }

    fn object(&mut self, depth: u8) -> Option<Json> {
        let mut fields = Vec::new();
        self.take('{')?;
        while self.take('}').is_none() {
            if !fields.is_empty() {
                self.take(',')?;
            }
            self.skip_space();
            let key = self.text()?;
            self.take(':')?;
            fields.push((key, self.value(depth)?));
        }
        Some(Json::Object(fields))
    }

    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut characters = self.rest.strip_prefix('"')?.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => text.push(match characters.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'u' => {
                        let digits: String = characters.by_ref().take(4).collect();
                        // Half of a surrogate pair is not a character; nothing that we compare contains one.
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    other => other,
                }),
                other => text.push(other),
            }
        }
        self.rest = characters.as_str();
        Some(text)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Option<Json> {
        let is_end = |character: char| matches!(character, ',' | ']' | '}') || character.is_whitespace();
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "null" => Some(Json::Null),
            "true" | "false" => Some(Json::Scalar),
            number => number.parse::<f64>().ok().map(|_| Json::Scalar),
        }
    }

    fn take(&mut self, character: char) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(character)?;
        Some(())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_writes() {
        let json = Json::parse(r#" {"a": [1, -2.5e3, true, null, {}], "b\n\u00e9": "x\"\\y", "c": []} "#).unwrap();
        assert_eq!(json.field("a").unwrap().elements().len(), 5);
        assert_eq!(json.field("b\né").unwrap().text(), Some("x\"\\y"));
        assert_eq!(json.field("c").unwrap().elements(), []);
        assert_eq!(json.field("d"), None);
    }

    #[test]
    fn refuses_what_is_cut_wrong_or_too_deep() {
        for text in ["", "{", "[1", "[1 2]", "{\"a\"}", "\"a", "\"\\u12\"", "nul", "[] []", "{\"a\":1,}"] {
            assert_eq!(Json::parse(text), None, "{text}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_none());
    }
}
