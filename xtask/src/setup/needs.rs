//! The list of what a machine needs: for each executable its Debian package, its purpose and the reason.
//!
//! Place in the flow: read by `setup`. A line added here is installed on every machine, CI included, at the next run.
//! Keeps true: names are those of Debian 12 and later and of Ubuntu 22.04 and later.

use std::path::Path;

use super::Purpose;
use crate::command;

/// One thing a machine needs.
#[derive(Debug)]
pub(super) struct Need {
    /// Any one of these executables or files (absolute paths) meets the need.
    pub(super) any_of: &'static [&'static str],
    /// The Debian package that brings it.
    pub(super) package: &'static str,
    pub(super) purpose: Purpose,
    pub(super) why: &'static str,
    pub(super) weight: Weight,
}

/// What happens when a need cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The chore stops.
    Must,
    /// The chore continues; tests that need it are skipped.
    May,
}

impl Need {
    /// Returns whether this machine has it.
    pub(super) fn is_met(&self) -> bool {
        let (files, executables): (Vec<&str>, Vec<&str>) = self.any_of.iter().partition(|name| name.starts_with('/'));
        files.iter().any(|file| Path::new(file).exists()) || command::find(&executables).is_some()
    }
}

const fn must(purpose: Purpose, any_of: &'static [&'static str], package: &'static str, why: &'static str) -> Need {
    Need { any_of, package, purpose, why, weight: Weight::Must }
}

const fn may(purpose: Purpose, any_of: &'static [&'static str], package: &'static str, why: &'static str) -> Need {
    Need { any_of, package, purpose, why, weight: Weight::May }
}

/// Everything the chores need beyond rustup and git.
pub(super) const NEEDS: &[Need] = &[
    must(Purpose::Build, &["cc"], "gcc", "links Rust programs; compiles aws-lc, SQLite, zstd and the erasure code"),
    must(Purpose::Build, &["/usr/include/stdlib.h"], "libc6-dev", "the C library's headers, which gcc only recommends"),
    must(Purpose::Build, &["c++"], "g++", "cmake projects of our dependencies may ask for a C++ compiler"),
    must(Purpose::Build, &["cmake"], "cmake", "builds zlib-ng, which pingora wants"),
    must(Purpose::Build, &["make"], "make", "what cmake drives"),
    must(Purpose::Build, &["pkg-config"], "pkg-config", "finds C libraries of the system"),
    must(
        Purpose::Build,
        &["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"],
        "ca-certificates",
        "lets cargo trust crates.io",
    ),
    must(Purpose::Judges, &["curl"], "curl", "asks the HTTP door as viewers do"),
    must(Purpose::Judges, &["dig"], "bind9-dnsutils", "asks the DNS door, with client subnets"),
    must(Purpose::Test, &["jq"], "jq", "reads JSON in the commands of the documents"),
    must(Purpose::Test, &["pkill"], "procps", "ends nodes there"),
    must(Purpose::Test, &["sqlite3"], "sqlite3", "takes the backup of a catalog as operators do"),
    must(Purpose::Test, &["kdig"], "knot-dnsutils", "a second opinion on the DNS door"),
    must(Purpose::Test, &["pebble"], "pebble", "certifies the zone of an edge"),
    must(Purpose::Test, &["openssl"], "openssl", "resumes TLS sessions"),
    must(
        Purpose::Test,
        &["h2load"],
        "nghttp2-client",
        "asks without a pause while an edge makes way, and in benchmarks",
    ),
    must(Purpose::Test, &["ffprobe"], "ffmpeg", "plays the sample film through an edge, with seeks"),
    must(Purpose::Test, &["aria2c"], "aria2", "fetches a film over sixteen connections"),
    must(Purpose::Test, &["wget"], "wget", "fetches a film over one"),
    must(Purpose::Test, &["mpv"], "mpv", "plays a film from its middle"),
    must(Purpose::Test, &["haproxy"], "haproxy", "checks an edge as balancers do"),
    must(Purpose::Test, &["strace"], "strace", "makes the disk fail at a chosen call"),
    must(Purpose::Test, &["nft"], "nftables", "cuts nodes from each other"),
    must(Purpose::Test, &["ip"], "iproute2", "gives each node a network of its own"),
    must(Purpose::Test, &["mkfs.ext4"], "e2fsprogs", "makes a file system that fails"),
    must(Purpose::Test, &["prlimit"], "util-linux", "takes a process its files"),
    must(
        Purpose::Test,
        &[
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        ],
        "libfaketime",
        "lets the clock of a process jump",
    ),
    must(
        Purpose::Test,
        &[
            "/usr/lib/postgresql/14/bin/initdb",
            "/usr/lib/postgresql/15/bin/initdb",
            "/usr/lib/postgresql/16/bin/initdb",
            "/usr/lib/postgresql/17/bin/initdb",
            "/usr/lib/postgresql/18/bin/initdb",
        ],
        "postgresql",
        "the second engine of the catalog; tests start a server of their own",
    ),
    must(Purpose::Units, &["systemd-analyze"], "systemd", "reads the units of deploy/ as a machine does"),
    may(
        Purpose::Test,
        &["pip3", "pip"],
        "python3-pip",
        "brings tools that are built already, in place of compiling them",
    ),
    may(
        Purpose::Test,
        &["node"],
        "nodejs",
        "runs what others wrote in JavaScript: clients, and judges of what we make",
    ),
    may(Purpose::Test, &["npm"], "npm", "brings them"),
    may(
        Purpose::Test,
        &["chromium", "chromium-browser", "google-chrome"],
        "chromium",
        "shows the image and plays the film in a real browser",
    ),
    may(Purpose::Test, &["WebKitWebDriver"], "webkit2gtk-driver", "the same in the browser of which Safari is one"),
    may(Purpose::Test, &["Xvfb"], "xvfb", "a screen for it"),
    may(
        Purpose::Test,
        &[
            "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstlibav.so",
            "/usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstlibav.so",
        ],
        "gstreamer1.0-libav",
        "decodes films for it",
    ),
    must(Purpose::Python, &["python3"], "python3-venv", "reads the vectors of the object format a second time"),
    must(Purpose::Bench, &["nginx"], "nginx-light", "a peer for cached hits"),
    must(Purpose::Bench, &["h2o"], "h2o", "a peer for cached hits"),
    must(Purpose::Bench, &["varnishd"], "varnish", "another"),
    must(Purpose::Bench, &["caddy"], "caddy", "a peer over HTTP/3"),
    must(Purpose::Bench, &["/usr/bin/time"], "time", "measures peak memory"),
    must(Purpose::Package, &["dpkg-shlibdeps"], "dpkg-dev", "finds out what the program links"),
    must(Purpose::Room, &["debootstrap"], "debootstrap", "makes a bare Debian"),
    must(Purpose::Audits, &["zstd"], "zstd", "unpacks the database of known faults"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_stands_in_the_list_once() {
        let mut packages: Vec<&str> = NEEDS.iter().map(|need| need.package).collect();
        packages.sort_unstable();
        let count = packages.len();
        packages.dedup();
        assert_eq!(packages.len(), count);
    }

    #[test]
    fn a_file_and_an_executable_both_meet_a_need() {
        assert!(must(Purpose::Build, &["/"], "none", "").is_met());
        assert!(must(Purpose::Build, &["sh"], "none", "").is_met());
        assert!(!must(Purpose::Build, &["/no/such/file", "no-such-program"], "none", "").is_met());
    }
}
