//! What is kept in memory and on a disk under it, as configured.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::config_error::{ConfigError, check_bounds};

/// Least room for ready answers: a worker of many has room for some of the longest heads.
const READY_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Least cache: below it one stripe of the widest profile evicts itself.
const CACHE_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Least disk: sixteen of its files.
const DISK_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// What is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes of decoded blocks. Absent: 256 MiB.
    #[serde(default = "default_block_bytes_max")]
    pub block_bytes_max: u64,
    /// Bytes of decoded blocks on their way from origins at one time; a fill beyond it waits. As many again may
    /// wait for viewers to take them. One owner's objects have at most half of what those of the others leave. Absent:
    /// 64 MiB.
    #[serde(default = "default_fill_bytes_max")]
    pub fill_bytes_max: u64,
    /// Objects kept open, with their records: one that takes more than 16 KiB counts once for each 16 KiB. Absent:
    /// 65,536.
    #[serde(default = "default_objects_max")]
    pub objects_max: u64,
    /// Bytes of answers that are ready, of all workers together: an answer to each target, at most 256 KiB of content
    /// apart, which counts among the blocks. One of a small file takes some 3 KiB. Absent: 256 MiB.
    #[serde(default = "default_ready_bytes_max")]
    pub ready_bytes_max: u64,
    /// Seconds after which a record is asked for again although nobody told of a change. Absent: 300.
    #[serde(default = "default_record_seconds")]
    pub record_seconds: u64,
    /// Seconds for which a name stays unknown once no node knew it. Absent: 5.
    #[serde(default = "default_unknown_seconds")]
    pub unknown_seconds: u64,
    /// What is kept on a disk under it. Absent: nothing.
    #[serde(default)]
    pub disk: Option<DiskConfig>,
}

/// What is kept on a local disk, as encrypted as origins have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// A folder of this edge alone; made if it is not there.
    pub path: PathBuf,
    /// Bytes of its files, at least 64 MiB.
    pub bytes_max: u64,
}

impl CacheConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_bounds(&[
            ("cache.block_bytes_max", self.block_bytes_max, CACHE_BYTES_MIN..=u64::MAX, "at least 16 MiB"),
            ("cache.fill_bytes_max", self.fill_bytes_max, CACHE_BYTES_MIN..=1 << 40, "from 16 MiB to 1 TiB"),
            ("cache.objects_max", self.objects_max, 16..=u64::MAX, "at least 16"),
            ("cache.ready_bytes_max", self.ready_bytes_max, READY_BYTES_MIN..=1 << 40, "from 16 MiB to 1 TiB"),
            ("cache.record_seconds", self.record_seconds, 1..=86_400, "from 1 to 86400"),
            ("cache.unknown_seconds", self.unknown_seconds, 1..=300, "from 1 to 300"),
        ])?;
        let Some(disk) = &self.disk else { return Ok(()) };
        check_bounds(&[("cache.disk.bytes_max", disk.bytes_max, DISK_BYTES_MIN..=u64::MAX, "at least 64 MiB")])
    }

    pub(crate) fn record_time(&self) -> Duration {
        Duration::from_secs(self.record_seconds)
    }

    pub(crate) fn unknown_time(&self) -> Duration {
        Duration::from_secs(self.unknown_seconds)
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            block_bytes_max: default_block_bytes_max(),
            fill_bytes_max: default_fill_bytes_max(),
            objects_max: default_objects_max(),
            ready_bytes_max: default_ready_bytes_max(),
            record_seconds: default_record_seconds(),
            unknown_seconds: default_unknown_seconds(),
            disk: None,
        }
    }
}

fn default_block_bytes_max() -> u64 {
    256 * 1024 * 1024
}

fn default_fill_bytes_max() -> u64 {
    64 * 1024 * 1024
}

fn default_objects_max() -> u64 {
    65_536
}

fn default_ready_bytes_max() -> u64 {
    256 * 1024 * 1024
}

fn default_record_seconds() -> u64 {
    300
}

fn default_unknown_seconds() -> u64 {
    5
}
