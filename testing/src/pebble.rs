//! A certificate authority that is not ours: Let's Encrypt's pebble, of Debian's package, for tests of one machine.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread::park_timeout,
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::free_port;

/// No start takes longer.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// An authority. It ends when it is dropped.
pub struct Pebble {
    folder: PathBuf,
    port: u16,
    management: u16,
    dns: SocketAddr,
    process: Option<Child>,
}

impl Pebble {
    /// Starts one that asks the DNS server at `dns` for proof, with its files in a folder that is there. Blocks until
    /// it answers.
    ///
    /// # Panics
    /// When pebble or curl is not installed, or it does not answer.
    #[must_use]
    pub fn start(folder: &Path, dns: SocketAddr) -> Self {
        let (port, management) = (free_port(), free_port());
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let mut it = Self { folder: folder.to_owned(), port, management, dns, process: None };
        let (own, key) = (it.own_root(), it.file("own.key"));
        fs::write(&own, cert.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management}",
            "certificate": {own:?}, "privateKey": {key:?}, "httpPort": 1, "tlsPort": 1, "ocspResponderURL": "",
            "externalAccountBindingRequired": false}}}}"#
        );
        fs::write(it.file("pebble.json"), config).unwrap();
        it.resume();
        it
    }

    /// Ends it; what it gave is forgotten.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it where it was.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn resume(&mut self) {
        let process = Command::new("pebble")
            .args(["-strict", "-dnsserver", &self.dns.to_string(), "-config"])
            .arg(self.file("pebble.json"))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(fs::File::create(self.file("said")).unwrap())
            .stderr(fs::File::create(self.file("failed")).unwrap())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let root = format!("https://localhost:{}/roots/0", self.management);
        let begun = Instant::now();
        loop {
            let output = Command::new("curl").args(["-fsS", "--cacert"]).arg(self.own_root()).arg(&root).output();
            let output = output.unwrap();
            if output.status.success() {
                return fs::write(self.root(), output.stdout).unwrap();
            }
            let failed = || fs::read_to_string(self.file("failed")).unwrap();
            assert!(begun.elapsed() < DEADLINE, "pebble does not answer: {}{}", self.said(), failed());
            park_timeout(PAUSE);
        }
    }

    /// What its certificates are trusted by.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.file("root.pem")
    }

    /// What its own HTTPS is trusted by.
    #[must_use]
    pub fn own_root(&self) -> PathBuf {
        self.file("own.pem")
    }

    /// The DNS server that it asks.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Its log.
    ///
    /// # Panics
    /// When it never ran.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.file("said")).unwrap()
    }

    /// How many certificates it gave since it was started or resumed.
    #[must_use]
    pub fn given(&self) -> usize {
        self.said().matches("Issued certificate").count()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}
