//! What a question is about. Pure; a wrong label ends here, without a look-up.

use format::{Label, LabelError};
use hickory_proto::rr::{LowerName, Name};

use super::{ZoneFacts, before};

/// The label before the zone that proves whose it is, in lower case as [`LowerName`] has it.
const CHALLENGE: &[u8] = b"_acme-challenge";

/// What a name in a question names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// A name of another zone.
    Elsewhere,
    /// The zone itself.
    Apex,
    /// One of the zone's own name servers.
    NameServer(LowerName),
    /// Where a certificate authority looks for proof (RFC 8555 section 8.4).
    Challenge(Name),
    /// An object, with its name as asked.
    Object(Name, Label),
    /// A name in the zone that cannot exist.
    Nothing(LabelError),
}

impl Question {
    pub(super) fn read(name: &LowerName, zone: &ZoneFacts) -> Self {
        let Some(labels) = before(name, &zone.apex) else { return Self::Elsewhere };
        match labels.as_slice() {
            [] => Self::Apex,
            _ if zone.nameservers.iter().any(|server| server == name) => Self::NameServer(name.clone()),
            [label] if zone.challenge && *label == CHALLENGE => Self::Challenge(Name::from(name)),
            [label] => match Label::parse(label) {
                Ok(label) => Self::Object(Name::from(name), label),
                Err(error) => Self::Nothing(error),
            },
            // Nothing lies below a label.
            _ => Self::Nothing(LabelError::Spelling),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use crate::config::Config;
    use format::Capability;

    fn asked(name: &str) -> Question {
        let config = Config::from_toml(include_str!("../../edge.sample.toml")).unwrap();
        let name = LowerName::new(&Name::from_str(name).unwrap());
        Question::read(&name, &ZoneFacts::of(&config).unwrap())
    }

    #[test]
    fn names_are_told_apart() {
        let label = Label::open(Capability::from_bytes([5; 32]));
        assert_eq!(asked("Evernear.Example."), Question::Apex);
        assert!(matches!(asked("ns1.evernear.example."), Question::NameServer(_)));
        let object = |name: &str| match asked(name) {
            Question::Object(_, label) => Some(label),
            _ => None,
        };
        assert_eq!(object(&format!("{label}.evernear.example.")), Some(label.clone()));
        let upper = label.to_string().to_uppercase();
        assert_eq!(object(&format!("{upper}.EVERNEAR.example.")), Some(label.clone()));
        for name in [
            format!("a.{label}.evernear.example."),
            "www.evernear.example.".into(),
            "_acme-challenge.evernear.example.".into(),
        ] {
            assert!(matches!(asked(&name), Question::Nothing(_)), "{name}");
        }
        for name in ["example.", ".", "example.com.", "xevernear.example."] {
            assert_eq!(asked(name), Question::Elsewhere, "{name}");
        }
    }
}
