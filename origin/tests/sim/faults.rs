//! What goes wrong, one round after the other: at most as much at once as every object survives, which is two columns
//! of any (a node has one of each, a zone at most half the parity), and after each round everything heals.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::HttpTransport;
use format::wire::Role;
use tokio::time::sleep;
use walkdir::{DirEntry, WalkDir};

use crate::{
    check,
    network::Lie,
    trace::lock,
    work::Shelf,
    world::{Host, World},
};

/// Bits that rot on one disk in one round.
const ROT_MAX: usize = 12;

/// What goes wrong in one round.
#[derive(Debug)]
enum Fault {
    /// Nodes are off for a while.
    Off(Vec<usize>),
    /// A node loses its disk.
    Wiped(usize),
    /// Nobody reaches a zone, and it reaches nobody; another node is off.
    Cut(String, usize),
    /// Messages are lost and late everywhere.
    Storm,
    /// Bits flip on disks.
    Rot(Vec<usize>),
    /// Nodes lie.
    Liars(Vec<(usize, Lie)>),
    /// The catalog does not answer.
    NoCatalog,
    /// An operator empties a node.
    Drained(usize),
}

impl Fault {
    fn draw(world: &World) -> Self {
        let nodes = world.hosts.len();
        world.draw(|dice| {
            let first = dice.usize(0..nodes);
            let second = (first + dice.usize(1..nodes)) % nodes;
            let mut lie = || dice.choice(Lie::ALL).unwrap();
            let lies = [lie(), lie()];
            match dice.u32(0..10) {
                0..2 => Self::Off(vec![first, second]),
                2 => Self::Wiped(first),
                3 => Self::Cut(world.hosts[first].place.zone.clone(), second),
                4 => Self::Storm,
                5 => Self::Rot(vec![first, second]),
                6..8 => Self::Liars(vec![(first, lies[0]), (second, lies[1])]),
                8 => Self::NoCatalog,
                _ => Self::Drained(first),
            }
        })
    }
}

/// One round: something goes wrong, lasts, ends, and everything heals.
pub(crate) async fn round(world: &Arc<World>, shelf: &Shelf) {
    let fault = Fault::draw(world);
    let lasts = Duration::from_millis(world.draw(|dice| dice.u64(3_000..30_000)));
    world.trace.note(format_args!("{fault:?} for {} ms", lasts.as_millis()));
    let settled = shelf.len();
    shelf.must_read(if matches!(fault, Fault::Storm) { 0 } else { settled });
    match &fault {
        Fault::Off(nodes) => {
            for at in nodes {
                world.power_off(*at).await;
            }
            sleep(lasts).await;
            for at in nodes {
                world.power_on(*at).await;
            }
        }
        Fault::Wiped(at) => {
            world.wipe(*at).await;
            sleep(lasts).await;
            world.power_on(*at).await;
        }
        Fault::Cut(zone, at) => {
            lock(&world.weather).cut.insert(zone.clone());
            world.power_off(*at).await;
            sleep(lasts).await;
            world.power_on(*at).await;
            lock(&world.weather).cut.clear();
        }
        Fault::Storm => {
            let calm = lock(&world.weather).jitter;
            (lock(&world.weather).lost_per_mille, lock(&world.weather).jitter) = (60, Duration::from_millis(300));
            sleep(lasts).await;
            (lock(&world.weather).lost_per_mille, lock(&world.weather).jitter) = (0, calm);
        }
        Fault::Rot(nodes) => {
            for at in nodes {
                rot(world, &world.hosts[*at]);
            }
            sleep(lasts).await;
            for at in nodes {
                let (running, _) = world.hosts[*at].service().expect("it is up");
                let scrubbed = running.scrub().await;
                let found = scrubbed.map(|done| (done.mended, done.quarantined));
                world.trace.note(format_args!("{} scrubbed: {found:?}", world.hosts[*at].name));
            }
        }
        Fault::Liars(liars) => {
            for (at, lie) in liars {
                lock(&world.weather).liars.insert(world.hosts[*at].name.clone(), *lie);
            }
            sleep(lasts).await;
            lock(&world.weather).liars.clear();
        }
        Fault::NoCatalog => {
            world.catalog.set_down(true);
            sleep(lasts).await;
            world.catalog.set_down(false);
        }
        Fault::Drained(at) => {
            drain(world, *at, true).await;
            sleep(lasts).await;
            drain(world, *at, false).await;
        }
    }
    world.trace.note("nothing is wrong any more");
    check::heals(world, &shelf.objects()[..settled]).await;
    world.disks_settled();
}

/// The operator's word to a node, with its own certificate.
async fn drain(world: &Arc<World>, at: usize, draining: bool) {
    let Host { name, place, .. } = &world.hosts[at];
    let operator: Arc<HttpTransport> = world.transport(name.as_str(), Role::Origin, place.clone());
    let told = operator.drain(name, draining).await.is_ok();
    world.trace.note(format_args!("{name} told to drain {draining}: {told}"));
}

/// Flips bits in files of shards and in packs.
fn rot(world: &World, host: &Host) {
    let folders = ["shards", "packs"].map(|folder| host.folder().join(folder));
    let entries = folders.iter().flat_map(WalkDir::new).filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_file()).map(DirEntry::into_path);
    let mut files: Vec<(String, PathBuf)> = files.map(|file| (name_in_trace(&file), file)).collect();
    files.sort();
    let flips = world.draw(|dice| dice.usize(1..=ROT_MAX));
    for _ in 0..flips {
        let Some((name, file)) = world.draw(|dice| dice.choice(&files)) else { break };
        let mut bytes = fs::read(file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let bit = world.draw(|dice| dice.usize(0..bytes.len() * 8));
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(file, &bytes).unwrap();
        world.trace.note(format_args!("{} rots at {bit} of {name}", host.name));
    }
}

/// The name of a file without the salt of packs, which the machine draws.
fn name_in_trace(file: &Path) -> String {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    match name.split_once('-') {
        Some((number, salted)) => format!("{number}.{}", salted.rsplit_once('.').map_or("", |(_, kind)| kind)),
        None => name,
    }
}
