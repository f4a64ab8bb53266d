//! One origin of the network: its configuration, and it while it runs.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use client::IdentityFiles;
use format::{Country, NodeName, Place};
use origin::{
    Config, Origin, Running, StartError,
    catalog::CatalogUrl,
    config::{ConfigError, Limits},
    rebuild::{Progress, RebuildError},
};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    failing::MortalDisk,
    ports,
    pulse::{Pulse, Reading},
    settings::{Disk, Seat},
};

/// Requests under way have so long to end when the network stops.
const DRAIN_SECONDS: u64 = 3;
/// An origin that has not ended by then is left to the end of the process: its disk hangs.
const STOP_DEADLINE: Duration = Duration::from_secs(3 * DRAIN_SECONDS);

/// An origin that runs.
pub(crate) struct Seated {
    pub(crate) name: NodeName,
    running: Running,
    /// Stops it, also where it is dropped: an origin that nobody holds would keep its port and its disk.
    stop: DropGuard,
    disk: Arc<MortalDisk>,
}

impl Seated {
    /// Starts an origin on a disk.
    ///
    /// # Errors
    /// What the origin says.
    pub(crate) async fn start(
        disk: &Disk,
        seat: &Seat,
        host: IpAddr,
        catalog: &CatalogUrl,
        files: IdentityFiles,
    ) -> Result<Self, StartError> {
        let identity = files.read().map_err(ConfigError::from)?;
        let listen = SocketAddr::new(host, seat.port);
        let config = Config { tls: Some(files), listen, ..config(disk, seat, catalog) };
        let stop = CancellationToken::new();
        let mortal = Arc::new(MortalDisk::new(stop.clone()));
        // A start that is given up leaves nothing behind either.
        let guard = stop.clone().drop_guard();
        let running = Origin::start_on(config, identity, stop, mortal.clone()).await?;
        Ok(Self { name: seat.name.clone(), running, stop: guard, disk: mortal })
    }

    /// Returns whether an fsync failed, after which the origin stops by itself.
    pub(crate) fn has_failed(&self) -> bool {
        self.disk.has_failed()
    }

    /// Stops the origin: requests under way end first, within [`DRAIN_SECONDS`].
    pub(crate) async fn stop(self) {
        drop(self.stop);
        match timeout(STOP_DEADLINE, self.running.stopped()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(node = %self.name, %error, "the origin did not stop in order"),
            Err(_) => tracing::warn!(node = %self.name, "the origin does not stop: its disk does not answer"),
        }
    }
}

/// Files in the catalog what an origin that does not run has on its disk: the catalog was lost. Each step is a beat.
///
/// # Errors
/// What the rebuild says; another one goes on.
pub(crate) async fn rebuild(disk: &Disk, seat: &Seat, catalog: &CatalogUrl, pulse: &Pulse) -> Result<(), RebuildError> {
    tracing::warn!(node = %seat.name, "the catalog was lost: it is made again from the disks");
    let tell = |progress: &Progress| {
        let Progress { done, records: of } = progress;
        let records =
            [done.records_filed, done.records_known, done.records_older, done.records_other, done.records_damaged];
        let (records, shards) = (records.into_iter().sum(), done.shards_known + done.shards_filed);
        pulse.read(Reading { disk: disk.path.clone(), records, of: *of, shards });
    };
    origin::rebuild::rebuild_telling(&config(disk, seat, catalog), tell).await.map(drop)
}

fn config(disk: &Disk, seat: &Seat, catalog: &CatalogUrl) -> Config {
    // Nobody knows where in the world it is, and what is lost together is the disk.
    let place = Place {
        country: Country::UNKNOWN,
        region: "here".to_owned(),
        zone: disk.name.clone(),
        operator: String::new(),
        datacentre: String::new(),
        latitude: 0.0,
        longitude: 0.0,
    };
    Config {
        name: seat.name.clone(),
        listen: ports::loopback(seat.port),
        advertise: None,
        admin: None,
        data_dir: disk.data_dir(seat.name.as_str()),
        bucket: None,
        catalog: catalog.clone(),
        capacity_bytes: None,
        place,
        tls: None,
        traces: None,
        limits: Limits { drain_seconds: DRAIN_SECONDS, ..Limits::default() },
    }
}
