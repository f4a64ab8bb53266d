//! Network namespaces on a bridge, one for each node of a cluster, and nftables rules in each that drop packets from
//! others. All of it is removed on drop. What a killed test left behind is removed when the next one starts.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
};

use cluster::processes::Seat;

/// Prefix of the names of namespaces and links; the process id follows it.
const PREFIX: &str = "evernear";

/// The number of the bridge itself, outside all namespaces. Its address is the last of the network, .254.
pub(crate) const BRIDGE: u8 = 253;

/// The namespaces.
pub(crate) struct Wires {
    count: u8,
}

impl Wires {
    /// Makes `count` namespaces. Needs root.
    pub(crate) fn new(count: u8) -> Self {
        let user = Command::new("id").arg("-u").output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&user).trim(), "0", "this test needs root: it makes network namespaces");
        sweep();
        let wires = Self { count };
        must(&["link", "add", &bridge(), "type", "bridge"]);
        must(&["address", "add", &format!("{}/24", Self::host(BRIDGE)), "dev", &bridge()]);
        must(&["link", "set", &bridge(), "up"]);
        for node in 0..count {
            let (space, link) = (space(node), link(node));
            must(&["netns", "add", &space]);
            must(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            must(&["link", "set", &link, "master", &bridge(), "up"]);
            must(&["-n", &space, "address", "add", &format!("{}/24", Self::host(node)), "dev", "eth0"]);
            must(&["-n", &space, "link", "set", "eth0", "up"]);
            must(&["-n", &space, "link", "set", "lo", "up"]);
        }
        wires
    }

    /// Returns the address of a node, in a network reserved for benchmarks (RFC 2544) that nobody else uses.
    pub(crate) fn host(node: u8) -> IpAddr {
        let [_, .., network] = std::process::id().to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(198, 18, network, node + 1))
    }

    /// Returns where each node runs, in order.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let seat = |node| Seat {
            host: Some(Self::host(node)),
            launch: ["ip", "netns", "exec", &space(node)].map(str::to_owned).to_vec(),
            data_dir: None,
        };
        (0..self.count).map(seat).collect()
    }

    /// Drops all packets from the second to the first node of each pair. All other nodes receive each other's.
    pub(crate) fn cut(&self, deaf: &BTreeSet<(u8, u8)>) {
        for node in 0..self.count {
            let mut rules = "table inet evernear\ndelete table inet evernear\ntable inet evernear {\n\
                             chain input { type filter hook input priority 0;\n"
                .to_owned();
            for (_, from) in deaf.iter().filter(|(to, _)| *to == node) {
                writeln!(rules, "ip saddr {} drop", Self::host(*from)).unwrap();
            }
            rules += "}\n}\n";
            let mut nft = Command::new("ip")
                .args(["netns", "exec", &space(node), "nft", "-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success(), "nft refuses {rules}");
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for node in 0..self.count {
            ip(&["netns", "delete", &space(node)]);
            ip(&["link", "delete", &link(node)]);
        }
        ip(&["link", "delete", &bridge()]);
    }
}

/// Removes the namespaces and links of processes that no longer run.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            ip(&["netns", "delete", name]);
            ip(&["link", "delete", &format!("evb{pid}")]);
        }
    }
}

fn space(node: u8) -> String {
    format!("{PREFIX}{}-{node}", std::process::id())
}

/// Names of links have at most 15 characters.
fn link(node: u8) -> String {
    format!("ev{}x{node}", std::process::id())
}

fn bridge() -> String {
    format!("evb{}", std::process::id())
}

fn ip(arguments: &[&str]) -> bool {
    let done = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    done.expect("iproute2 is installed: `./x setup --test`").success()
}

fn must(arguments: &[&str]) {
    assert!(ip(arguments), "ip {} failed", arguments.join(" "));
}
