//! A certificate that was stolen: what its thief can still do once the authority refused it, which is nothing, and what
//! it can keep from others, which is not the list.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{HttpTransport, Membership, Topology, Transport, TransportError, tls::Identity};
use cluster::curl;
use edge::{Edge, Parts, Sockets};
use format::wire::{NodeEntry, Role};
use futures::future::join_all;
use origin::Origin;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use twin::{Operator, TwinConfig};

use crate::made::Made;

/// How late every node knows (the change feed's promise).
const KNOWN: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(30);

fn caller(identity: &Identity, seeds: &[NodeEntry]) -> HttpTransport {
    HttpTransport::new(identity, Arc::new(Topology::new(seeds.to_vec()))).unwrap()
}

/// Signs a list that refuses these.
fn list(made: &Made, number: u64, refused: &[&Identity]) -> Bytes {
    let serials: Vec<_> = refused.iter().map(|identity| identity.leaf().unwrap().serial).collect();
    made.network.authority.refuse(number, serials.iter()).unwrap()
}

async fn eventually(what: &str, deadline: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < deadline, "{what} is not so after {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate_is_cut_off_everywhere_within_two_seconds_and_over_a_restart() {
    let mut made = Made::new().await;
    let seeds = made.network.seeds().unwrap();
    let (thief, operator) =
        (made.network.identity("thief", Role::Twin).unwrap(), made.network.identity("operator", Role::Twin).unwrap());
    let (thief_calls, operator_calls) = (Arc::new(caller(&thief, &seeds)), caller(&operator, &seeds));
    // One connection of the thief to each origin, with a call under way that would last for 30 seconds.
    let newest = operator_calls.changes(&seeds[0].name, 0, 0).await.unwrap().next;
    let under_way: Vec<_> = seeds
        .iter()
        .map(|seed| {
            let (calls, name) = (thief_calls.clone(), seed.name.clone());
            tokio::spawn(async move {
                let mut since = newest;
                loop {
                    since = calls.changes(&name, since, 30).await?.next;
                }
                #[expect(unreachable_code, reason = "the type of the task's end")]
                Ok::<(), TransportError>(())
            })
        })
        .collect();
    for seed in &seeds {
        thief_calls.nodes(&seed.name).await.unwrap();
    }

    // One origin is told; the feed carries it to the others and to the edges.
    let first = list(&made, 1, &[&thief]);
    operator_calls.put_refused(&seeds[5].name, first.clone()).await.unwrap();
    let cut = timeout(KNOWN, join_all(under_way)).await.expect("each call under way is cut");
    assert!(cut.into_iter().all(|call| call.unwrap().is_err()));
    eventually("the edges know", KNOWN, async || {
        made.network.memberships.iter().all(|edge| edge.refused().number() == 1)
    })
    .await;
    for seed in &seeds {
        let refused = thief_calls.nodes(&seed.name).await;
        assert!(matches!(refused, Err(TransportError::Unreachable { .. })), "{refused:?}");
    }

    // Not after a restart either, and with no older list nor one of the thief's making.
    made.network.kill(2).await.unwrap();
    made.network.revive(2).await.unwrap();
    let third = &seeds[2].name;
    eventually("the origin is back", DEADLINE, async || operator_calls.nodes(third).await.is_ok()).await;
    assert!(thief_calls.nodes(third).await.is_err());
    let status = |told: Result<(), TransportError>| match told {
        Err(TransportError::Refused { status, .. }) => status,
        told => panic!("{told:?}"),
    };
    assert_eq!(status(operator_calls.put_refused(third, list(&made, 0, &[])).await), 409);
    assert_eq!(status(operator_calls.put_refused(third, list(&made, 1, &[])).await), 409, "another of the same number");
    let forged = client::tls::Authority::create().unwrap().refuse(2, [].iter()).unwrap();
    assert_eq!(status(operator_calls.put_refused(third, forged).await), 400);
    operator_calls.put_refused(third, first.clone()).await.unwrap();
    assert_eq!(operator_calls.refused(third, 0).await.unwrap(), Some(first));
    assert_eq!(operator_calls.refused(third, 1).await.unwrap(), None);

    // The same name with a new certificate is welcome.
    caller(&made.network.identity("thief", Role::Twin).unwrap(), &seeds).nodes(third).await.unwrap();
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_asks_a_thief_learns_of_the_list_from_its_seeds_and_turns_to_them() {
    let made = Made::new().await;
    let seeds = made.network.seeds().unwrap();
    let stolen = made.network.identity("ghent", Role::Origin).unwrap();
    let serial = stolen.leaf().unwrap().serial;
    let again = made.network.identity("operator", Role::Twin).unwrap();
    let (stop, running) = thief(&made, stolen).await;
    let honest = seeds.iter().find(|seed| seed.name.as_str() > "ghent").unwrap().clone();
    let text = format!(
        "name = \"e9\"\nzone = \"localhost\"\n[place]\ncountry = \"BE\"\nregion = \"eu\"\nzone = \"z\"\nlatitude = 0.0\nlongitude = 0.0\n\
         [dns]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[seeds]]\nname = \"ghent\"\naddress = \"{}\"\n\
         [[seeds]]\nname = \"{}\"\naddress = \"{}\"\n",
        running.local_addr,
        honest.name,
        honest.address.as_ref().unwrap(),
    );
    let config = edge::Config::from_toml(&text).unwrap();
    let membership = Membership::new(&made.network.identity("e9", Role::Edge).unwrap(), None).unwrap();
    let topology = Arc::new(Topology::new(config.seed_nodes()));
    let parts = Parts {
        transport: Arc::new(HttpTransport::of(membership.clone(), topology.clone())),
        membership: Some(membership.clone()),
        topology: topology.clone(),
        engine: None,
        compiler: None,
        sockets: Sockets::default(),
    };
    let (down, shutdown) = watch::channel(false);
    let edge = Edge::start(config, parts, shutdown).await.unwrap();
    let origins = || topology.origins().into_iter().map(|origin| origin.name.to_string()).collect::<Vec<_>>();
    // It hides nobody from the edge, which asks its other seed as well.
    eventually("the edge has all origins", DEADLINE, async || origins().len() == seeds.len()).await;
    let file = made.file("news.txt", b"news");
    let stored = made.put(&file).await;
    let get = async || {
        let url = made.network.url(&stored.label, "");
        curl(edge.http, &url, &made.folder.path().join("body"), &[]).await.unwrap().status
    };
    eventually("the edge serves", DEADLINE, async || get().await == 200).await;
    made.network.twin.remove(&stored.label.capability().locator()).await.unwrap();

    let refused = made.network.authority.refuse(1, [serial].iter()).unwrap();
    caller(&again, &seeds).put_refused(&honest.name, refused).await.unwrap();
    eventually("the edge knows", DEADLINE, async || membership.refused().number() == 1).await;
    // What the thief's feed held back is heard now.
    eventually("the erasure", DEADLINE, async || get().await == 410).await;
    let left = caller_of(&membership, &topology).nodes(&honest.name).await;
    assert!(left.is_ok(), "{left:?}");

    down.send(true).unwrap();
    edge.join().await;
    stop.cancel();
    running.stopped().await.unwrap();
    made.network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_certificate_back_is_told_of_no_success_by_its_thief() {
    let made = Made::new().await;
    let seeds = made.network.seeds().unwrap();
    let stolen = made.network.identity("ghent", Role::Origin).unwrap();
    let serial = stolen.leaf().unwrap().serial;
    let (stop, thief) = thief(&made, stolen).await;
    let honest = seeds.iter().find(|seed| seed.name.as_str() != "ghent").unwrap();
    let keys = made.folder.path().join("operator");
    std::fs::create_dir(&keys).unwrap();
    let issued = made.network.authority.issue(&"operator".parse().unwrap(), Role::Twin).unwrap();
    for (file, text) in [
        ("authority.pem", made.network.authority.certificate_pem()),
        ("me.pem", &issued.certificate),
        ("me.key", &issued.key),
    ] {
        client::keep(&keys.join(file), text.as_bytes()).unwrap();
    }
    // The thief is the first to be asked, and tells of itself alone.
    let config = format!(
        "[place]\ncountry = \"BE\"\nregion = \"eu\"\nzone = \"z\"\nlatitude = 50.85\nlongitude = 4.35\n\
         [identity]\nauthority = \"authority.pem\"\ncertificate = \"me.pem\"\nkey = \"me.key\"\n\
         [[node]]\nname = \"ghent\"\naddress = \"{}\"\n[[node]]\nname = \"{}\"\naddress = \"{}\"\n",
        thief.local_addr,
        honest.name,
        honest.address.as_ref().unwrap(),
    );
    let file = keys.join("twin.toml");
    std::fs::write(&file, config).unwrap();
    let operator = Operator::connect(&TwinConfig::read(&file).unwrap()).await.unwrap();
    assert_eq!(operator.topology().origins().len(), seeds.len(), "it hides nobody");
    let refused = made.network.authority.refuse(1, [serial].iter()).unwrap();
    let answers = operator.refuse(&refused).await.unwrap();
    // The origin of that name where two others say that it is, and not the thief, counts as one that was told.
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()) && answers.len() == seeds.len(), "{answers:?}");
    eventually("the edges know", KNOWN, async || {
        made.network.memberships.iter().all(|edge| edge.refused().number() == 1)
    })
    .await;
    stop.cancel();
    thief.stopped().await.unwrap();
    made.network.stop().await.unwrap();
}

/// Runs an origin by the stolen certificate of the nearest one. It knows of no other node and of no list.
async fn thief(made: &Made, stolen: Identity) -> (CancellationToken, origin::Running) {
    let config = format!(
        "name = \"ghent\"\nlisten = \"127.0.0.1:0\"\ndata_dir = {:?}\ncatalog = \"sqlite://{}\"\n[place]\ncountry = \"BE\"\n\
         region = \"eu\"\nzone = \"z\"\nlatitude = 0.0\nlongitude = 0.0\n",
        made.folder.path().join("thief"),
        made.folder.path().join("thief.sqlite").display(),
    );
    let stop = CancellationToken::new();
    (stop.clone(), Origin::start(toml::from_str(&config).unwrap(), stolen, stop).await.unwrap())
}

fn caller_of(membership: &Arc<Membership>, topology: &Arc<Topology>) -> HttpTransport {
    HttpTransport::of(membership.clone(), topology.clone())
}
