//! What a start decides before anything runs: which disks, which ports. It is remembered before it is used.

use std::{net::SocketAddr, path::PathBuf};

use data_encoding::HEXLOWER;
use origin::config::mount_point;
use tokio::sync::watch;

use crate::{
    catalog_place::CatalogChoice,
    clock,
    disk::{Call, Look, settings_on},
    doors::{self, DNS, HTTP},
    folders::Folders,
    home::EDGE,
    keys,
    named_disk::{add_disks, replace_disk},
    origin_ports::move_ports,
    public::{Public, PublicOptions},
    pulse::Wait,
    settings::{Disk, Listen, Settings},
    up_error::UpError,
};

/// What a start is told.
#[derive(Debug, Default)]
pub struct UpOptions {
    /// The owner's state folder.
    pub state: PathBuf,
    /// Folders that are disks of the network, known ones and new ones. None on the first start: one in the state
    /// folder.
    pub disks: Vec<PathBuf>,
    /// Folders in the places of disks that are lost, to be filled whatever lies in them.
    pub replaced: Vec<PathBuf>,
    /// Where HTTP is answered. Absent: where it was, and on the first start 127.0.0.1:8080 or the next free port.
    pub http: Option<SocketAddr>,
    /// Where DNS is answered. Absent: where it was, and on the first start 127.0.0.1:5300 or the next free port.
    pub dns: Option<Listen>,
    /// Where the twin answers. Absent: where it did, and on the first start 127.0.0.1:8081 or the next free port.
    pub twin: Option<Listen>,
    /// The zone that everybody reads at. Absent: the one that was, or none.
    pub public: Option<PublicOptions>,
    /// Where machines may join, whose nodes then reach the origins here by this address. Absent: where it was, and on
    /// the first start nowhere. Port 0: the one that it had, or a free one.
    pub nodes: Option<Listen>,
    /// Where the catalog is to be; this start moves it there. Absent: where it was, and on the first start in the file
    /// in the state folder.
    pub catalog: Option<CatalogChoice>,
    /// Is told how far the start is with what takes long: the reading of disks, when the catalog was lost, or its move.
    pub readers: watch::Sender<Wait>,
}

/// Returns the settings of this start, durable, and whether it is the first. `now` is in seconds since 1970. Blocks on
/// the disk; for disks that do not answer, some seconds.
///
/// # Errors
/// [`UpError`]: what was named cannot be had, and nothing was changed.
pub(crate) fn prepare(folders: &Folders, options: &UpOptions, now: u64) -> Result<(Settings, bool), UpError> {
    let before = Settings::read(&folders.settings())?;
    let mut settings = match &before {
        Some(settings) => settings.clone(),
        // A first start writes them first of all.
        None if folders.catalog().exists() => return Err(UpError::LostSettings { path: folders.settings() }),
        None if folders.twin_config().exists() => return Err(UpError::OtherCluster { path: folders.twin_config() }),
        None => Settings::new(random_id()?, HTTP, Listen::At(DNS)),
    };
    let remembered = before.as_ref();
    clock::check(now, settings.seen)?;
    follow_disks(&mut settings, folders)?;
    settings.public = Public::choose(options.public.as_ref(), &settings)?;
    if settings.public.is_some() {
        refuse_other_edges(folders)?;
    }
    doors::choose(&mut settings, options, remembered)?;
    options.replaced.iter().try_for_each(|path| replace_disk(&mut settings, path))?;
    add_disks(&mut settings, folders, &options.disks)?;
    move_ports(&mut settings)?;
    if remembered != Some(&settings) {
        settings.keep(&folders.settings())?;
    }
    Ok((settings, before.is_none()))
}

/// Refuses a zone for everybody beside edges on other machines: DNS would lead viewers there, and they serve no zone.
fn refuse_other_edges(folders: &Folders) -> Result<(), UpError> {
    let keys = folders.keys();
    match keys::edges_in(&keys)?.into_iter().find(|name| name.as_str() != EDGE) {
        Some(name) => Err(UpError::OtherEdge { name, keys }),
        None => Ok(()),
    }
}

/// Takes note of where the disks are mounted now, unless one of them knows better what the network is made of. A disk
/// that does not answer is as one that is not there.
fn follow_disks(settings: &mut Settings, folders: &Folders) -> Result<(), UpError> {
    let ask = |disk: &Disk| {
        let (disk, network) = (disk.clone(), settings.network.clone());
        Call::begin(move || {
            let is_ready = matches!(disk.look(&network), Look::Ready);
            // A copy that does not read is no reason to stop.
            let copy = Settings::read(&settings_on(&disk.path)).ok().flatten();
            let mount = is_ready.then(|| mount_point(&disk.path)).flatten();
            (mount, copy, is_ready.then(|| disk.unnamed_origin()).flatten())
        })
    };
    let calls: Vec<_> = settings.disks.iter().map(ask).collect();
    for (at, call) in calls.into_iter().enumerate() {
        let Some((mount, copy, unnamed)) = call.answer() else { continue };
        let path = &settings.disks[at].path;
        if copy.is_some_and(|copy| copy.network == settings.network && copy.written > settings.written) {
            return Err(UpError::OldSettings { path: folders.settings(), newer: settings_on(path) });
        }
        if let Some(origin) = unnamed {
            return Err(UpError::UnnamedOrigin { disk: path.clone(), origin, settings: folders.settings() });
        }
        if let Some(mount) = mount {
            settings.disks[at].mount = mount;
        }
    }
    Ok(())
}

fn random_id() -> Result<String, UpError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener, path::Path};

    use super::*;
    use crate::{doors::TWIN, loss, origin_ports::free_port, ports};

    /// 2027.
    const NOW: u64 = 1_800_000_000;

    fn prepare(folders: &Folders, options: &UpOptions) -> Result<(Settings, bool), UpError> {
        super::prepare(folders, options, NOW)
    }

    fn folders(home: &Path) -> Folders {
        let folders = Folders::of(&home.join("state")).unwrap();
        folders.make().unwrap();
        folders
    }

    fn any_doors() -> UpOptions {
        let any = Some(Listen::At("127.0.0.1:0".parse().unwrap()));
        UpOptions { http: Some("127.0.0.1:0".parse().unwrap()), dns: any, twin: any, ..UpOptions::default() }
    }

    #[test]
    fn a_first_start_is_remembered_and_later_ones_add_to_it() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let (first, is_new) = prepare(&folders, &any_doors()).unwrap();
        assert!(is_new && first.disks.len() == 1 && first.disks[0].origins.len() == loss::ALONE);
        assert!(first.http.port() > 0 && first.disks[0].path.is_dir());
        assert_eq!(prepare(&folders, &UpOptions::default()).unwrap(), (first.clone(), false));

        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let with = |disks: &[&Path]| UpOptions {
            disks: disks.iter().map(|it| it.to_path_buf()).collect(),
            ..UpOptions::default()
        };
        let (second, _) = prepare(&folders, &with(&[&a, &b, &a])).unwrap();
        assert_eq!(second.disks.iter().map(|disk| disk.origins.len()).collect::<Vec<_>>(), [3, 1, 1]);
        assert_eq!(prepare(&folders, &with(&[&b])).unwrap().0, second, "it is known");
        fs::remove_dir(&b).unwrap();
        assert_eq!(prepare(&folders, &with(&[&b])).unwrap().0, second, "also when it is gone");
        let missing = prepare(&folders, &with(&[&home.path().join("c")])).unwrap_err();
        assert!(matches!(missing, UpError::Disk { .. }));
        fs::create_dir(a.join("inner")).unwrap();
        assert!(matches!(prepare(&folders, &with(&[&a.join("inner")])), Err(UpError::Nested { .. })));
    }

    #[test]
    fn a_disk_is_found_where_it_was_moved_and_another_networks_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        fs::create_dir(&a).unwrap();
        let at = |path: &Path| UpOptions { disks: vec![path.to_owned()], ..any_doors() };
        let (first, _) = prepare(&folders, &at(&a)).unwrap();
        first.disks[0].mark(&first.network).unwrap();
        fs::rename(&a, &b).unwrap();
        let (second, _) = prepare(&folders, &at(&b)).unwrap();
        assert_eq!((second.disks.len(), &second.disks[0].path), (1, &b.canonicalize().unwrap()));
        let mut foreign = second.disks[0].clone();
        foreign.path = home.path().join("c");
        fs::create_dir(&foreign.path).unwrap();
        foreign.mark("another").unwrap();
        assert!(matches!(prepare(&folders, &at(&foreign.path)), Err(UpError::ForeignDisk { .. })));
    }

    #[test]
    fn a_disk_that_lies_in_two_places_is_refused_and_both_are_named() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        [&a, &b].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let with =
            |disks: &[&Path]| UpOptions { disks: disks.iter().map(|it| it.to_path_buf()).collect(), ..any_doors() };
        let (first, _) = prepare(&folders, &with(&[&a])).unwrap();
        first.disks[0].mark(&first.network).unwrap();
        Disk { path: b.clone(), ..first.disks[0].clone() }.mark(&first.network).unwrap();
        for named in [&[&*a, &*b][..], &[&*b]] {
            let refused = prepare(&folders, &with(named)).unwrap_err().to_string();
            assert!([&a, &b].iter().all(|path| refused.contains(path.to_str().unwrap())), "{refused}");
        }
        // Another name of the same folder is no copy.
        std::os::unix::fs::symlink(&a, home.path().join("link")).unwrap();
        prepare(&folders, &with(&[&home.path().join("link")])).unwrap();
        fs::rename(&a, home.path().join("away")).unwrap();
        assert_eq!(prepare(&folders, &with(&[&b])).unwrap().0.disks[0].path, b.canonicalize().unwrap());
    }

    #[test]
    fn a_disk_with_an_origin_that_the_settings_do_not_name_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let (settings, _) = prepare(&folders, &any_doors()).unwrap();
        settings.disks[0].mark(&settings.network).unwrap();
        for seat in &settings.disks[0].origins {
            let folder = settings.disks[0].data_dir(seat.name.as_str());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("lock"), "").unwrap();
        }
        prepare(&folders, &UpOptions::default()).unwrap();
        let text = fs::read_to_string(folders.settings()).unwrap();
        fs::write(folders.settings(), text.replace("\"o2\"", "\"o9\"")).unwrap();
        let refused = prepare(&folders, &UpOptions::default()).unwrap_err();
        assert!(matches!(&refused, UpError::UnnamedOrigin { origin, .. } if origin == "o2"), "{refused}");
    }

    #[test]
    fn a_folder_that_is_said_to_replace_a_lost_disk_is_filled_whatever_lies_in_it() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        [&a, &b].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let (mut settings, _) =
            prepare(&folders, &UpOptions { disks: vec![a.clone(), b.clone()], ..any_doors() }).unwrap();
        assert!(settings.disks.iter().all(|disk| disk.is_new), "they were named");
        // As when they were taken in, and one was lost and something else lies there.
        settings.disks.iter_mut().for_each(|disk| disk.is_new = false);
        settings.keep(&folders.settings()).unwrap();
        settings.disks[0].mark(&settings.network).unwrap();
        fs::write(b.join("holiday.jpg"), "").unwrap();
        let replaced = |path: &Path| UpOptions { replaced: vec![path.to_owned()], ..UpOptions::default() };
        let is_new = |settings: &Settings| settings.disks.iter().map(|disk| disk.is_new).collect::<Vec<_>>();
        let named = UpOptions { disks: vec![b.clone()], ..UpOptions::default() };
        assert_eq!(is_new(&prepare(&folders, &named).unwrap().0), [false, false], "each start may name all disks");
        assert_eq!(is_new(&prepare(&folders, &replaced(&a)).unwrap().0), [false, false], "it is there");
        assert_eq!(is_new(&prepare(&folders, &replaced(&b)).unwrap().0), [false, true]);
        assert_eq!(is_new(&prepare(&folders, &UpOptions::default()).unwrap().0), [false, true], "it is remembered");
        assert!(matches!(prepare(&folders, &replaced(home.path())), Err(UpError::NoDiskThere { .. })));
        let first = Disk { path: b.clone(), ..settings.disks[0].clone() };
        first.mark(&settings.network).unwrap();
        let other = prepare(&folders, &replaced(&b)).unwrap_err();
        assert!(matches!(&other, UpError::OtherDisk { disk, .. } if disk == "disk1"), "{other}");
    }

    #[test]
    fn settings_that_are_older_than_a_disks_copy_are_refused_and_so_is_a_disk_that_they_do_not_know() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        [&a, &b].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let with = |path: &Path| UpOptions { disks: vec![path.to_owned()], ..any_doors() };
        let (first, _) = prepare(&folders, &with(&a)).unwrap();
        first.disks[0].mark(&first.network).unwrap();
        let old = fs::read(folders.settings()).unwrap();
        fs::copy(folders.settings(), settings_on(&a)).unwrap();
        assert_eq!(prepare(&folders, &UpOptions::default()).unwrap().0, first, "a copy of the same age");
        let (second, _) = prepare(&folders, &with(&b)).unwrap();
        second.disks[1].mark(&second.network).unwrap();
        // The state folder comes from a backup, and disk2 is not in it.
        fs::copy(folders.settings(), settings_on(&a)).unwrap();
        fs::write(folders.settings(), &old).unwrap();
        let refused = prepare(&folders, &UpOptions::default()).unwrap_err();
        assert!(matches!(&refused, UpError::OldSettings { newer, .. } if *newer == settings_on(&a)), "{refused}");
        fs::remove_file(settings_on(&a)).unwrap();
        let unknown = prepare(&folders, &with(&b)).unwrap_err();
        assert!(matches!(&unknown, UpError::UnknownDisk { disk, .. } if disk == "disk2"), "{unknown}");
    }

    #[test]
    fn a_start_under_a_wrong_clock_begins_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        assert!(matches!(super::prepare(&folders, &any_doors(), 7), Err(UpError::Clock(_))));
        assert!(!folders.settings().exists());
        let (mut settings, _) = prepare(&folders, &any_doors()).unwrap();
        settings.seen = NOW;
        settings.keep(&folders.settings()).unwrap();
        let early = super::prepare(&folders, &UpOptions::default(), NOW - 3 * 24 * 3600).unwrap_err();
        assert!(early.to_string().contains("timedatectl"), "{early}");
        prepare(&folders, &UpOptions::default()).unwrap();
    }

    #[test]
    fn a_door_that_is_taken_is_passed_over_once_and_told_of_later() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let (settings, _) = prepare(&folders, &any_doors()).unwrap();
        let other = TcpListener::bind(settings.http).unwrap();
        let taken = prepare(&folders, &UpOptions::default()).unwrap_err();
        assert!(taken.to_string().contains(&format!("process {}", std::process::id())), "{taken}");
        // A named door takes its place, and is remembered.
        let named = UpOptions { http: Some("127.0.0.1:0".parse().unwrap()), ..UpOptions::default() };
        let (second, _) = prepare(&folders, &named).unwrap();
        assert_ne!(second.http, settings.http);
        drop(other);
        assert_eq!(prepare(&folders, &UpOptions::default()).unwrap().0, second);
        // The port of an origin is nobody's business but ours.
        let other = TcpListener::bind(ports::loopback(second.disks[0].origins[0].port)).unwrap();
        let (third, _) = prepare(&folders, &UpOptions::default()).unwrap();
        assert_ne!(third.disks[0].origins[0].port, other.local_addr().unwrap().port());
        assert_eq!(third.twin, settings.twin, "it is in scripts");
        let one = Some(Listen::At(third.http));
        let both = UpOptions { twin: one, ..UpOptions::default() };
        assert!(matches!(prepare(&folders, &both), Err(UpError::SamePort { port }) if port == third.http.port()));
        let far = UpOptions { http: Some("192.0.2.1:8080".parse().unwrap()), ..UpOptions::default() };
        assert!(matches!(prepare(&folders, &far), Err(UpError::Address { .. })), "no machine has TEST-NET-1");
        let elsewhere = UpOptions { http: Some("127.0.0.9:0".parse().unwrap()), ..UpOptions::default() };
        assert!(matches!(prepare(&folders, &elsewhere), Err(UpError::Elsewhere { .. })));
        let off = UpOptions { dns: Some(Listen::Off), ..UpOptions::default() };
        assert_eq!(prepare(&folders, &off).unwrap().0.dns, Listen::Off);
        assert_eq!(prepare(&folders, &UpOptions::default()).unwrap().0.dns, Listen::Off, "it is remembered");
    }

    #[test]
    fn a_door_that_nobody_names_takes_no_port_of_another_door() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        // Whoever names the default of one door for another has both.
        let named = UpOptions { http: Some(TWIN), dns: Some(Listen::Off), ..UpOptions::default() };
        match prepare(&folders, &named) {
            Ok((settings, _)) => {
                let twin = settings.twin.unwrap().address().unwrap();
                assert!(settings.http == TWIN && twin.port() > TWIN.port(), "{twin}");
            }
            // Somebody on this machine has it.
            Err(error) => assert!(matches!(error, UpError::Taken { door: "http", .. }), "{error}"),
        }
    }

    #[test]
    fn other_machines_reach_the_origins_where_it_was_named_until_that_is_taken_back() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let at = |address: &str| Some(Listen::At(address.parse().unwrap()));
        let named = |nodes| prepare(&folders, &UpOptions { nodes, ..any_doors() });
        assert_eq!(prepare(&folders, &any_doors()).unwrap().0.nodes, None);
        let (first, _) = named(at("127.0.0.2:0")).unwrap();
        let door = first.nodes.unwrap();
        assert!(door.ip() == first.host() && door.port() >= 7499, "{door}");
        assert!(first.seats().all(|seat| first.address(seat).ip() == door.ip() && seat.port != door.port()));
        assert_eq!(named(None).unwrap().0.nodes, Some(door), "it is remembered");
        let moved = named(at("127.0.0.3:0")).unwrap().0.nodes.unwrap();
        assert_eq!((moved.ip().to_string().as_str(), moved.port()), ("127.0.0.3", door.port()), "it is in invitations");
        for nobodys in ["0.0.0.0:0", "[::]:0", "224.0.0.1:0", "[fe80::1]:0"] {
            assert!(matches!(named(at(nobodys)), Err(UpError::Nodes { .. })), "{nobodys}");
        }
        assert!(matches!(named(at("192.0.2.1:0")), Err(UpError::Address { door: "nodes", .. })), "no machine has it");
        assert_eq!(named(Some(Listen::Off)).unwrap().0.nodes, None);
    }

    #[test]
    fn a_door_and_an_origin_never_have_one_port() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        let (first, _) = prepare(&folders, &any_doors()).unwrap();
        let wanted = first.disks[0].origins[0].port;
        // The port of an origin that does not run is free, and the next one that would be drawn.
        let named = UpOptions { http: Some(ports::loopback(wanted)), ..UpOptions::default() };
        let (second, _) = prepare(&folders, &named).unwrap();
        assert_eq!(second.http.port(), wanted);
        assert!(second.seats().all(|seat| !second.door_ports().contains(&seat.port)), "{second:?}");
        let drawn = free_port(&Settings::new(second.network.clone(), second.http, Listen::Off)).unwrap();
        assert_ne!(drawn, wanted);
    }

    #[test]
    fn the_folder_of_an_owner_of_another_cluster_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let folders = folders(home.path());
        fs::write(folders.twin_config(), "").unwrap();
        assert!(matches!(prepare(&folders, &any_doors()), Err(UpError::OtherCluster { .. })));
        assert!(!folders.settings().exists());
    }
}
