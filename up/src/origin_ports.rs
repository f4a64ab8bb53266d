//! The ports of origins. Nobody types them, and nodes elsewhere learn them from each other, so they may change.

use std::{io, net::SocketAddr, ops::Range};

use crate::{
    ports::{self, Kind},
    settings::Settings,
    up_error::UpError,
};

/// Ports of origins, below those that systems give to connections. A network begins at one that its id draws, so that
/// networks of one machine seldom want the same while one rests.
const ORIGIN_PORTS: Range<u16> = 7_500..8_000;

/// Gives origins whose ports others have, or doors, another.
pub(crate) fn move_ports(settings: &mut Settings) -> Result<(), UpError> {
    let doors = settings.door_ports();
    for (disk, seat) in settings.all_seats() {
        let address = settings.address(&settings.disks[disk].origins[seat]);
        if doors.contains(&address.port())
            || ports::is_taken(address, Kind::Tcp)
                .map_err(|source| UpError::OriginPort { host: settings.host(), source })?
        {
            let port = free_port(settings)?;
            let seat = &mut settings.disks[disk].origins[seat];
            tracing::info!(node = %seat.name, %address, port, "the port of an origin is taken; it gets another");
            seat.port = port;
        }
    }
    Ok(())
}

/// Returns the next port for an origin.
pub(crate) fn free_port(settings: &Settings) -> Result<u16, UpError> {
    let drawn = settings.network.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let Range { start, end } = ORIGIN_PORTS;
    let first = SocketAddr::new(settings.host(), start + drawn % (end - start));
    let is_ours = |port| settings.door_ports().contains(&port) || settings.seats().any(|seat| seat.port == port);
    let free = ports::free_from(first, Kind::Tcp, is_ours);
    let unusable = |source| UpError::OriginPort { host: settings.host(), source };
    Ok(free.map_err(unusable)?.ok_or_else(|| unusable(io::ErrorKind::AddrInUse.into()))?.port())
}
