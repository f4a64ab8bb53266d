//! Ports for programs that cannot be told to take a free one.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The lowest port of all lanes.
const FIRST: u16 = 10_000;
/// Tests that may run side by side, each with ports of its own.
const LANES: u16 = 16;
/// Ports of a lane. All lanes end below the ports that Linux gives to connections and to whoever asks for any (32,768
/// and up), so that none of them takes one before its listener does.
const LANE: u16 = (32_768 - FIRST) / LANES;

/// Returns a port that nobody uses now, TCP and UDP, and that neither this process is given twice nor a test that runs
/// at the same time is given: nextest tells each test which of its slots it has.
///
/// # Panics
/// When all ports of the slot are taken.
#[must_use]
pub fn free_port() -> u16 {
    /// The lane's first port, and the step that was taken last.
    static TAKEN: LazyLock<Mutex<(u16, u16)>> = LazyLock::new(|| {
        // Without nextest, and for the programs that a test starts, chance keeps processes apart.
        let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse::<u16>().ok());
        let lane = slot.map_or_else(|| fastrand::u16(..LANES), |slot| slot % LANES);
        Mutex::new((FIRST + lane * LANE, fastrand::u16(..LANE)))
    });
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let free = |port: &u16| {
        let address = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    let steps = std::iter::repeat_with(|| {
        taken.1 = (taken.1 + 1) % LANE;
        taken.0 + taken.1
    });
    steps.take(usize::from(LANE)).find(free).expect("of a lane's ports one is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_before_all_of_a_lane_were_given() {
        let mut ports: Vec<_> = std::iter::repeat_with(free_port).take(1_000).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 1_000);
        assert!(ports[0] >= FIRST && ports[999] < 32_768);
    }
}
