//! Where HTTP, HTTPS, DNS and the twin are answered.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{
    ports::{self, Kind},
    prepare::UpOptions,
    public::Public,
    settings::{Listen, Settings},
    up_error::UpError,
};

/// Where HTTP is answered when nobody says otherwise and nobody else has it.
pub(crate) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where DNS is.
pub(crate) const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);
/// Where the twin is.
pub(crate) const TWIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// The port at which machines join.
const NODES_PORT: u16 = 7499;

/// Puts the addresses of all doors into the settings: those named, else those that are remembered, else free ones.
///
/// # Errors
/// [`UpError`].
pub(crate) fn choose(
    settings: &mut Settings,
    options: &UpOptions,
    remembered: Option<&Settings>,
) -> Result<(), UpError> {
    let public = settings.public.clone();
    let before = match (&options.public, &public) {
        (None, _) => remembered.map(|before| (before.http, before.dns)),
        (Some(_), Some(public)) => Some((public.everywhere(80), Listen::At(public.dns()))),
        (Some(_), None) => remembered.map(Public::doors_before),
    };
    let http = options.http.or(before.map(|(http, _)| http));
    let dns = options.dns.or(before.map(|(_, dns)| dns));
    let twin = options.twin.or(remembered.and_then(|before| before.twin));
    let https = public.as_ref().map(|public| public.https);
    if let (Some(public), Some(Listen::Off)) = (&public, dns) {
        return Err(UpError::NoDns { zone: public.zone.clone() });
    }
    let nodes = nodes(options.nodes, remembered.and_then(|before| before.nodes))?;
    let mut ours: Vec<u16> = [dns, twin]
        .into_iter()
        .filter_map(|listen| listen?.address())
        .chain(http)
        .chain(https)
        .chain(nodes)
        .map(|address| address.port())
        .collect();
    settings.http = door("http", http, HTTP, Kind::Tcp, &ours)?;
    ours.push(settings.http.port());
    if public.is_none() && !is_here(settings.http.ip()) {
        return Err(UpError::Elsewhere { address: settings.http });
    }
    settings.dns = listen("dns", dns, DNS, Kind::TcpAndUdp, &ours)?;
    ours.extend(settings.dns.address().map(|address| address.port()));
    if let Some(public) = &mut settings.public {
        public.https = door("https", Some(public.https), public.https, Kind::TcpAndUdp, &ours)?;
        ours.push(public.https.port());
    }
    settings.twin = Some(listen("twin", twin, TWIN, Kind::Tcp, &ours)?);
    ours.extend(settings.door_ports());
    settings.nodes = nodes.map(|address| node_door(address, &ours)).transpose()?;
    match twice(settings.door_ports()) {
        Some(port) => Err(UpError::SamePort { port }),
        None => Ok(()),
    }
}

/// Returns where machines are to join, if they may; port 0 stands for a free one.
fn nodes(wanted: Option<Listen>, before: Option<SocketAddr>) -> Result<Option<SocketAddr>, UpError> {
    let address = match wanted {
        Some(Listen::Off) => return Ok(None),
        None => before,
        // The port stands in invitations.
        Some(Listen::At(named)) if named.port() == 0 => {
            Some(SocketAddr::new(named.ip(), before.map_or(0, |before| before.port())))
        }
        Some(Listen::At(named)) => Some(named),
    };
    let Some(address) = address else { return Ok(None) };
    let is_for_others = match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    };
    if is_for_others { Ok(Some(address)) } else { Err(UpError::Nodes { ip: address.ip() }) }
}

fn node_door(address: SocketAddr, ours: &[u16]) -> Result<SocketAddr, UpError> {
    let wanted = (address.port() != 0).then_some(address);
    door("nodes", wanted, SocketAddr::new(address.ip(), NODES_PORT), Kind::Tcp, ours)
}

/// Returns where a door is answered that may be off.
fn listen(
    name: &'static str,
    wanted: Option<Listen>,
    default: SocketAddr,
    kind: Kind,
    ours: &[u16],
) -> Result<Listen, UpError> {
    match wanted {
        Some(Listen::Off) => Ok(Listen::Off),
        wanted => door(name, wanted.and_then(Listen::address), default, kind, ours).map(Listen::At),
    }
}

/// Returns the address of a door: the one wanted, which was named or is remembered, else the first free one from a
/// default on that is none of `ours`.
fn door(
    door: &'static str,
    wanted: Option<SocketAddr>,
    default: SocketAddr,
    kind: Kind,
    ours: &[u16],
) -> Result<SocketAddr, UpError> {
    let unusable = |address: SocketAddr, source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => UpError::Privileged { door, address },
        _ => UpError::Address { door, address, source },
    };
    let Some(address) = wanted else {
        let free = ports::free_from(default, kind, |port| ours.contains(&port));
        let free = free.map_err(|source| unusable(default, source))?;
        return free.ok_or_else(|| UpError::Taken { door, address: default, holder: None });
    };
    if address.port() == 0 {
        return ports::any(address, kind, |port| ours.contains(&port)).map_err(|source| unusable(address, source));
    }
    if ports::is_taken(address, kind).map_err(|source| unusable(address, source))? {
        return Err(UpError::Taken { door, address, holder: ports::holder(address.port()) });
    }
    Ok(address)
}

/// Returns a port that stands there twice.
fn twice(mut ports: Vec<u16>) -> Option<u16> {
    ports.sort_unstable();
    ports.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
}

/// Returns whether browsers on this machine reach an address by a name below `localhost`.
fn is_here(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}
