//! The load under which a torture's harm is done: owners who store, remove and read.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use format::limits::INLINE_BYTES_MAX;
use tokio::time::sleep;

use super::{Act, Scene, WRITERS};

/// Objects in the first act: enough that every node has some, few enough to heal in seconds.
const FEW: usize = 300;
/// How long a writer or reader pauses when it has nothing to do.
const PAUSE: Duration = Duration::from_millis(100);

/// Stores objects, and removes some, until the end.
pub(super) async fn write(scene: Arc<Scene>, number: usize, mut rng: Rng) {
    while !scene.is(Act::End) {
        let floods = scene.is(Act::Flood);
        if !floods && (number >= WRITERS[0] || scene.keeper.count() >= FEW && rng.u8(..10) > 0) {
            sleep(PAUSE).await;
            continue;
        }
        let _change = scene.changes.read().await;
        // A removal rewrites the owner's whole index, which takes time in proportion to its entries.
        let removes = if floods { rng.u16(..1000) < 1 } else { rng.u8(..100) < 5 || scene.keeper.count() >= FEW };
        if removes {
            match scene.keeper.remove_any(&mut rng).await {
                Ok(()) => scene.tally.removals.add(1),
                Err(error) => {
                    tracing::info!(%error, "a removal failed");
                    scene.tally.refused_removals.add(1);
                }
            }
            continue;
        }
        let length = match (floods, rng.u8(..100)) {
            // Sizes: inside the record; one strip; several strips; several stripes.
            (false, 0..20) | (true, 0..80) => rng.usize(1..INLINE_BYTES_MAX),
            (true, 80..98) => rng.usize(INLINE_BYTES_MAX..64 << 10),
            (false, 20..90) | (true, _) => rng.usize(64 << 10..256 << 10),
            (false, _) => rng.usize(256 << 10..3 << 20),
        };
        match scene.keeper.put(&mut rng, length).await {
            Ok(kept) => {
                scene.tally.puts.add(1);
                scene.tally.put_bytes.add(kept.length);
            }
            Err(error) => {
                tracing::info!(%error, "an upload failed");
                scene.tally.refused_puts.add(1);
            }
        }
    }
}

/// Reads acknowledged objects until the end.
pub(super) async fn read(scene: Arc<Scene>, mut rng: Rng) {
    while !scene.is(Act::End) {
        let Some(kept) = scene.keeper.any(&mut rng) else {
            sleep(PAUSE).await;
            continue;
        };
        scene.tally.reads.add(1);
        match scene.keeper.is_exact(&kept).await {
            Ok(true) => {}
            Ok(false) => scene.tally.wrong_reads.add(1),
            Err(error) => {
                tracing::info!(%error, "a read failed");
                scene.tally.failed_reads.add(1);
            }
        }
        // A pause leaves the writers their share of a small machine.
        sleep(if scene.is(Act::Flood) { PAUSE } else { PAUSE / 20 }).await;
    }
}
