//! Where HTTP, DNS and the twin are answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    ports::{self, Kind},
    prepare::UpOptions,
    settings::{Listen, Settings},
    up_error::UpError,
};

/// Where HTTP is answered when nobody says otherwise and nobody else has it.
pub(crate) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where DNS is.
pub(crate) const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);
/// Where the twin is.
pub(crate) const TWIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// Puts the addresses of all doors into the settings: those named, else those that are remembered, else free ones.
///
/// # Errors
/// [`UpError`].
pub(crate) fn choose(
    settings: &mut Settings,
    options: &UpOptions,
    remembered: Option<&Settings>,
) -> Result<(), UpError> {
    let dns_before = remembered.map(|before| before.dns);
    let twin_before = remembered.and_then(|before| before.twin);
    let http = options.http.or(remembered.map(|before| before.http));
    let mut ours: Vec<u16> = [options.dns.or(dns_before), options.twin.or(twin_before)]
        .into_iter()
        .filter_map(|listen| listen?.address())
        .chain(http)
        .map(|address| address.port())
        .collect();
    settings.http = door("http", http, HTTP, Kind::Tcp, &ours)?;
    ours.push(settings.http.port());
    if !is_here(settings.http.ip()) {
        return Err(UpError::Elsewhere { address: settings.http });
    }
    settings.dns = listen("dns", options.dns.or(dns_before), DNS, Kind::TcpAndUdp, &ours)?;
    settings.twin = Some(listen("twin", options.twin.or(twin_before), TWIN, Kind::Tcp, &ours)?);
    match twice(settings.door_ports()) {
        Some(port) => Err(UpError::SamePort { port }),
        None => Ok(()),
    }
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
    let unusable = |address, source| UpError::Address { door, address, source };
    let Some(address) = wanted else {
        let free = ports::free_from(default, kind, |port| ours.contains(&port));
        let free = free.map_err(|source| unusable(default, source))?;
        return free.ok_or_else(|| UpError::Taken { door, address: default, holder: None });
    };
    if address.port() == 0 {
        return ports::any(address, kind).map_err(|source| unusable(address, source));
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
