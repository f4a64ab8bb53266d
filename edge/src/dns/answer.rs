//! What the zone answers: edges for objects, its own records for itself, NXDOMAIN with the SOA for the rest.

use std::{net::IpAddr, sync::Arc};

use format::{Label, Locator};
use hickory_proto::{
    op::ResponseCode,
    rr::{
        LowerName, Name, RData, Record, RecordType,
        rdata::{
            A, AAAA, CAA, HINFO, HTTPS, NS, SOA, SVCB, TXT,
            caa::KeyValue,
            svcb::{Alpn, IpHint, SvcParamKey, SvcParamValue},
        },
    },
};

use super::{
    question::Question,
    steering::{Steered, guess, nearest, steer_to},
    subnet::Viewer,
};
use crate::{
    clock,
    config::{Config, ConfigError, RefusedName},
    error::NameAnswer,
    node::Node,
    store::objects::Opened,
    zone::ZoneError,
};

/// Lifetime of what says who we are, in seconds.
const ZONE_SECONDS: u32 = 3600;
/// Lifetime of a no, in seconds: a name that is unknown now may be stored the next moment (RFC 2308 section 5).
const NEGATIVE_SECONDS: u32 = 5;

/// Lifetime of what an authority looks for, in seconds: the next order shows something else.
const PROOF_SECONDS: u32 = 1;

/// What the zone says of itself, made once.
pub(crate) struct ZoneFacts {
    pub(super) apex: LowerName,
    pub(super) nameservers: Vec<LowerName>,
    soa: SOA,
    refused: RefusedName,
    /// Whether a certificate authority may look for proof here.
    pub(super) challenge: bool,
    /// The one authority that may certify the zone, where CAA records say so.
    authority: Option<Name>,
    /// The protocols that HTTPS records name; none where there are no such records.
    alpn: Option<Alpn>,
}

/// An answer, ready to be sent.
pub(super) struct Answer {
    pub(super) rcode: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
    /// Whether another viewer may get another answer.
    pub(super) depends_on_viewer: bool,
}

impl ZoneFacts {
    /// Reads the zone's own records from the configuration.
    ///
    /// # Errors
    /// [`ConfigError::Name`] when a name does not fit into DNS.
    pub(crate) fn of(config: &Config) -> Result<Self, ConfigError> {
        let name = |field, text: &str| {
            let wrong = || ConfigError::Name { field, source: ZoneError { found: text.chars().take(80).collect() } };
            let mut name = Name::from_ascii(text).map_err(|_| wrong())?;
            name.set_fqdn(true);
            Ok::<_, ConfigError>(name)
        };
        let zone = config.zone.as_str();
        let apex = name("zone", zone)?;
        let named = config.nameservers();
        let nameservers = named.iter().map(|server| name("dns.nameservers", server)).collect::<Result<Vec<_>, _>>()?;
        let mailbox = config.dns.mailbox.clone().unwrap_or_else(|| format!("hostmaster.{zone}"));
        let mailbox = name("dns.mailbox", &mailbox)?;
        // Nobody transfers the zone, so its serial has nothing to say; every edge must say the same.
        let soa = SOA::new(nameservers[0].clone(), mailbox, 1, 7200, 900, 1_209_600, NEGATIVE_SECONDS);
        let acme = config.https.as_ref().and_then(|https| https.acme.as_ref());
        Ok(Self {
            apex: LowerName::new(&apex),
            nameservers: nameservers.iter().map(LowerName::new).collect(),
            soa,
            refused: config.dns.refused,
            challenge: acme.is_some(),
            authority: acme.and_then(|acme| acme.caa.as_deref()).map(|caa| name("https.acme.caa", caa)).transpose()?,
            alpn: config.dns.https_records.then(|| alpn(config)),
        })
    }

    fn apex(&self) -> Name {
        Name::from(&self.apex)
    }

    fn soa_record(&self, seconds: u32) -> Record {
        Record::from_rdata(self.apex(), seconds, RData::SOA(self.soa.clone()))
    }
}

impl Answer {
    pub(super) fn refusal(rcode: ResponseCode) -> Self {
        Self { rcode, authoritative: false, answers: Vec::new(), authority: Vec::new(), depends_on_viewer: false }
    }

    fn positive(answers: Vec<Record>) -> Self {
        Self { answers, authoritative: true, ..Self::refusal(ResponseCode::NoError) }
    }

    //= https://www.rfc-editor.org/rfc/rfc2308#section-3
    //# Name servers authoritative for a zone MUST include the SOA record of the zone in the authority section of the
    //# response when reporting an NXDOMAIN or indicating that no data of the requested type exists.
    fn negative(rcode: ResponseCode, zone: &ZoneFacts) -> Self {
        Self { authority: vec![zone.soa_record(NEGATIVE_SECONDS)], authoritative: true, ..Self::refusal(rcode) }
    }

    fn of(records: Vec<RData>, name: &Name, seconds: u32, zone: &ZoneFacts) -> Self {
        if records.is_empty() {
            return Self::negative(ResponseCode::NoError, zone);
        }
        Self::positive(records.into_iter().map(|data| Record::from_rdata(name.clone(), seconds, data)).collect())
    }
}

pub(super) async fn decide(
    node: &Arc<Node>,
    zone: &ZoneFacts,
    question: Question,
    kind: RecordType,
    viewer: &Viewer,
) -> Answer {
    match question {
        Question::Elsewhere => Answer::refusal(ResponseCode::Refused),
        Question::Nothing(_) => Answer::negative(ResponseCode::NXDomain, zone),
        Question::Apex => apex(node, zone, kind, viewer),
        Question::NameServer(name) => {
            let own = addresses(&node.public, kind);
            Answer::of(own, &Name::from(&name), ZONE_SECONDS, zone)
        }
        Question::Challenge(name) => {
            let shown = node.published.load();
            let values = match kind {
                RecordType::TXT => shown.challenges.iter().map(|value| txt(value.clone())).collect(),
                _ => Vec::new(),
            };
            Answer::of(values, &name, PROOF_SECONDS, zone)
        }
        Question::Object(name, label) => object(node, zone, &name, &label, kind, viewer).await,
    }
}

fn apex(node: &Node, zone: &ZoneFacts, kind: RecordType, viewer: &Viewer) -> Answer {
    let of = |records, seconds| Answer::of(records, &zone.apex(), seconds, zone);
    match kind {
        RecordType::SOA => of(vec![RData::SOA(zone.soa.clone())], ZONE_SECONDS),
        RecordType::NS => {
            of(zone.nameservers.iter().map(|server| RData::NS(NS(Name::from(server)))).collect(), ZONE_SECONDS)
        }
        RecordType::ANY => of(vec![minimal_any()], ZONE_SECONDS),
        RecordType::CAA => {
            let account = node.published.load().account.clone();
            of(zone.authority.iter().flat_map(|name| only(name, account.as_deref())).collect(), ZONE_SECONDS)
        }
        RecordType::A | RecordType::AAAA => {
            // The page at the apex is the same everywhere: any fixed key spreads it.
            let named = nearest(node, viewer.place, &Locator([0; 32]));
            Answer { depends_on_viewer: true, ..of(addresses(&named, kind), 60) }
        }
        _ => Answer::negative(ResponseCode::NoError, zone),
    }
}

async fn object(
    node: &Arc<Node>,
    zone: &ZoneFacts,
    name: &Name,
    label: &Label,
    kind: RecordType,
    viewer: &Viewer,
) -> Answer {
    let now = std::time::SystemTime::now();
    let capability = label.capability();
    let (steered, opened) = match node.resolve(label, viewer.resolver, now).await {
        Ok(root) => {
            let steered = steer_to(node, &root.opened, viewer.address, viewer.place, now).await;
            let left = root.seconds_at(clock::unix_seconds(now));
            (Steered { seconds: steered.seconds.min(left), ..steered }, Some(root.opened))
        }
        Err(fault) if fault.name_answer() == NameAnswer::NoSuchName => {
            return Answer::negative(ResponseCode::NXDomain, zone);
        }
        // Better an edge that explains itself than no answer: it is looked up, and known by the time the viewer comes.
        Err(_) => (guess(node, viewer.place, &capability.locator()), None),
    };
    let steered = match (steered.addresses.is_empty(), zone.refused) {
        (false, _) => steered,
        (true, RefusedName::Answer) => {
            Steered { addresses: nearest(node, viewer.place, &capability.locator()), seconds: steered.seconds }
        }
        (true, RefusedName::Nxdomain) => {
            return Answer { depends_on_viewer: true, ..Answer::negative(ResponseCode::NXDomain, zone) };
        }
    };
    let records = match kind {
        RecordType::A | RecordType::AAAA => addresses(&steered.addresses, kind),
        // A browser that finds the record goes to HTTPS alone.
        RecordType::HTTPS if !node.can_shake_hands() => Vec::new(),
        RecordType::HTTPS => zone.alpn.iter().map(|alpn| https(alpn, &steered.addresses)).collect(),
        RecordType::TXT => opened.as_deref().map(describe).into_iter().collect(),
        RecordType::ANY => vec![minimal_any()],
        _ => Vec::new(),
    };
    Answer { depends_on_viewer: true, ..Answer::of(records, name, steered.seconds, zone) }
}

/// Keeps the addresses of the family asked for, in their order.
fn addresses(addresses: &[IpAddr], kind: RecordType) -> Vec<RData> {
    let record = |address: &IpAddr| match (address, kind) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
        _ => None,
    };
    addresses.iter().filter_map(record).collect()
}

/// What all edges of a zone speak, for they are configured alike. Behind somebody else's terminator nothing is known of
/// HTTP/3.
fn alpn(config: &Config) -> Alpn {
    let http3 = config.https.as_ref().is_some_and(|https| https.http3);
    Alpn(if http3 { vec!["h3".to_owned(), "h2".to_owned()] } else { vec!["h2".to_owned()] })
}

/// RFC 8659: nobody but this authority certifies the zone or names in it; for no account but ours and by no other proof
/// (RFC 8657).
fn only(authority: &Name, account: Option<&str>) -> [RData; 2] {
    let account = account.map(|account| KeyValue::new("accounturi", account));
    let options: Vec<_> = account.into_iter().chain([KeyValue::new("validationmethods", "dns-01")]).collect();
    // Text in the record's value, without the root's dot (RFC 8659 section 4.2).
    let mut name = authority.clone();
    name.set_fqdn(false);
    let name = Some(name);
    [CAA::new_issue(false, name.clone(), options.clone()), CAA::new_issuewild(false, name, options)].map(RData::CAA)
}

/// RFC 9460: the same edges as hints.
fn https(alpn: &Alpn, addresses: &[IpAddr]) -> RData {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(A(*address)),
            IpAddr::V6(address) => v6.push(AAAA(*address)),
        }
    }
    let mut params = vec![(SvcParamKey::Alpn, SvcParamValue::Alpn(alpn.clone()))];
    if !v4.is_empty() {
        params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))));
    }
    if !v6.is_empty() {
        params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))));
    }
    RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), params)))
}

fn describe(opened: &Opened) -> RData {
    let manifest = opened.object.manifest();
    // A character string holds 255 bytes (RFC 1035 section 3.3); a media type may be as long as that alone.
    let mime: String = manifest.mime.chars().filter(char::is_ascii_graphic).take(200).collect();
    txt(format!("v=1 size={} type={mime}", manifest.length))
}

fn txt(text: String) -> RData {
    RData::TXT(TXT::new(vec![text]))
}

//= https://www.rfc-editor.org/rfc/rfc8482#section-4.2
//# the CPU field of the HINFO RDATA SHOULD be set to "RFC8482".
fn minimal_any() -> RData {
    RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()))
}
