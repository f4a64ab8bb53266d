//! Uploads over an owner's uplink, to real origins: slow, lossy, cut. What they take and send is printed.

use std::sync::Arc;

use client::{HttpTransport, Receipt, Topology, UploadError};
use format::{Compression, EncoderOptions, Lease, OwnerSecret, Profile, Suite, wire::Role};
use testing::{Encoded, Uplink, UplinkOptions, attributes, noise, read};
use tokio::time::{Duration, Instant, sleep};

use crate::world::World;

struct Owner {
    world: World,
    uplink: Uplink,
    transport: Arc<HttpTransport>,
    topology: Arc<Topology>,
    encoded: Encoded,
    bytes: Vec<u8>,
}

impl Owner {
    /// Starts so many origins, and an owner with `length` bytes and an uplink to them.
    async fn start(origins: usize, options: UplinkOptions, profile: Profile, length: usize) -> Self {
        let world = World::start(origins, "").await;
        let mut uplink = Uplink::new(options);
        let mut nodes = world.nodes.clone();
        for (number, node) in nodes.iter_mut().enumerate() {
            node.address = Some(uplink.to(world.origin(number + 1).local_addr).into());
        }
        let topology = Arc::new(Topology::new(nodes));
        let identity = world.identity("t1", Role::Twin);
        let transport = Arc::new(HttpTransport::new(&identity, topology.clone()).unwrap());
        let owner = OwnerSecret::from_bytes([1; 32]).keys().id();
        let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Off, owner };
        let bytes = noise(length);
        let encoded = Encoded::of(&[&bytes], options, [3; 32], attributes(), [5; 32]);
        Self { world, uplink, transport, topology, encoded, bytes }
    }

    fn lease(&self) -> bytes::Bytes {
        Lease::new(&self.encoded.sealed, Profile::SmallCluster).sign(&OwnerSecret::from_bytes([1; 32]).keys()).into()
    }

    async fn put(&self) -> Result<Receipt, UploadError> {
        let (transport, topology) = (self.transport.clone(), self.topology.clone());
        self.encoded.upload(transport, topology, [4; 32], self.lease()).await
    }

    /// Reads all of it back, past the uplink.
    async fn assert_stored(self, what: &str, began: Instant) {
        let columns = 0..self.encoded.sealed.public.columns();
        let shards: u64 = columns.map(|column| self.encoded.sealed.public.shard_bytes(column)).sum();
        println!(
            "{what}: {} s, {} bytes sent for shards of {shards}",
            began.elapsed().as_secs(),
            self.uplink.sent_bytes()
        );
        let near = Arc::new(self.world.caller("t1", Role::Twin));
        let topology = Arc::new(Topology::new(self.world.nodes.clone()));
        let reader = client::Reader::new(near, topology, testing::place("z"), client::ReaderOptions::default());
        assert!(read(&reader, &self.encoded.sealed.capability).await.unwrap() == self.bytes);
        drop((reader, self.transport, self.uplink));
        self.world.end().await;
    }
}

fn custom(redundancy: &str) -> Profile {
    Profile::Custom(redundancy.parse().unwrap())
}

/// 4.5 MiB of shards over 4 Mbit/s take 9 seconds, and the losses and cuts some more: that is what is tested.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_lossy_uplink_that_is_cut_stores_all_columns() {
    let options = UplinkOptions { bytes_per_second: 500_000, lost_percent: 3 };
    let owner = Owner::start(6, options, custom("4+2"), 6 << 19).await;
    let began = Instant::now();
    let cutting = async {
        for megabytes in 1..=3 {
            while owner.uplink.sent_bytes() < megabytes * 1_000_000 {
                sleep(Duration::from_millis(20)).await;
            }
            owner.uplink.cut();
        }
        std::future::pending::<()>().await;
    };
    let receipt = tokio::select! {
        receipt = owner.put() => receipt.unwrap(),
        () = cutting => unreachable!("it never ends"),
    };
    assert_eq!(receipt.durable, 6);
    owner.assert_stored("4 Mbit/s, 3 % lost, cut three times, 4+2", began).await;
}

/// Minutes of waiting for a link that is as slow as it is.
mod long_lane {
    use super::*;

    /// 16+8 over 0.5 Mbit/s: each of 24 columns has 2.6 KB/s.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "long: 7 MiB over 0.5 Mbit/s take two minutes"]
    async fn an_uplink_of_half_a_megabit_stores_16_8() {
        let options = UplinkOptions { bytes_per_second: 62_500, lost_percent: 1 };
        let owner = Owner::start(24, options, custom("16+8"), (4 << 20) + 300_000).await;
        let began = Instant::now();
        let receipt = owner.put().await.unwrap();
        // So many an upload promises; a column that the link held up too long is made up by repair.
        assert!(receipt.durable >= 20, "{}", receipt.durable);
        owner.assert_stored("0.5 Mbit/s, 1 % lost, 16+8", began).await;
    }
}
