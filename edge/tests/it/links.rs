//! Links that an owner signed, before a policy that asks for them.

use std::time::{SystemTime, UNIX_EPOCH};

use edge::{LinkKey, Terms, config::LinksConfig};
use format::{Kind, PolicyName};
use tempfile::TempDir;
use testing::noise_of;

use crate::{
    policy::publish_component,
    site::{Site, Stored, close},
};

const SIGNED: &[u8] = include_bytes!("../../../policies/prebuilt/signed.wasm");

struct Scene {
    site: Site,
    key: LinkKey,
    _folder: TempDir,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("zone.secret");
        close(&secret, &"5b".repeat(32));
        let links = LinksConfig { secret: secret.clone() };
        let site = Site::with(|config| config.links = Some(links), vec![]).await;
        let key = edge::link_key(&secret, &site.owner.id()).unwrap();
        Self { site, key, _folder: folder }
    }

    /// Stores a film under a policy; `seed` makes its content, since the same content has the same name.
    async fn store(&self, name: &str, config: &str, seed: u64) -> Stored {
        let policy: PolicyName = name.parse().unwrap();
        publish_component(&self.site, SIGNED, &policy, 1, config).await;
        self.site.store_as("film.bin", "video/mp4", noise_of(seed, 600_000), Kind::File, &policy).await
    }

    fn terms(stored: &Stored) -> Terms {
        let host = format!("{}.evernear.example", stored.label);
        Terms { expires: Some(now() + 600), host: Some(host), ..Terms::default() }
    }

    async fn status(&self, stored: &Stored, terms: &Terms) -> u16 {
        let path = format!("/film.mp4?v=1&token={}", terms.sign(&self.key));
        self.site.get(stored, &path, &[]).await.status()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_link_opens_its_object_until_it_ends_and_no_other() {
    let scene = Scene::new().await;
    let film = scene.store("signed", "ttl = 86400", 3).await;
    let other = scene.store("signed-too", "number = 17", 4).await;
    let refused = scene.site.get(&film, "/film.mp4", &[]).await;
    assert_eq!(
        (refused.status(), refused.field("cache-control")),
        (403, Some("private, max-age=0")),
        "{}",
        refused.head
    );
    let terms = Scene::terms(&film);

    let path = format!("/film.mp4?token={}", terms.sign(&scene.key));
    let answer = scene.site.get(&film, &path, &["-r", "1000-1999"]).await;
    assert!(answer.status() == 206 && answer.body() == &film.bytes[1000..2000], "{}", answer.head);
    let lifetime = answer.field("cache-control").unwrap().strip_prefix("private, max-age=").unwrap().to_owned();
    assert!((500..=600).contains(&lifetime.parse::<u64>().unwrap()), "no longer than the link: {lifetime}");

    // The same decision is remembered, and so is the other one.
    for _ in 0..2 {
        assert_eq!(scene.status(&film, &terms).await, 200);
        assert_eq!(scene.status(&film, &Terms { expires: Some(now() - 1), ..terms.clone() }).await, 403);
        assert_eq!(scene.status(&film, &Terms { not_before: Some(now() + 60), ..terms.clone() }).await, 403);
        assert_eq!(scene.status(&film, &Terms { path: Some("/other".to_owned()), ..terms.clone() }).await, 403);
        assert_eq!(
            scene.status(&film, &Terms { networks: vec!["192.0.2.0/24".parse().unwrap()], ..terms.clone() }).await,
            403
        );
        assert_eq!(
            scene.status(&film, &Terms { networks: vec!["127.0.0.0/8".parse().unwrap()], ..terms.clone() }).await,
            200
        );
        assert_eq!(scene.status(&other, &terms).await, 403);
    }
    let forged = Terms::sign(&terms, &LinkKey::from_hex(&"00".repeat(32)).unwrap());
    assert_eq!(scene.site.get(&film, &format!("/?token={forged}"), &[]).await.status(), 403);

    // A number that the policy wants, and any object of the owner.
    let all = Terms { host: None, ..terms };
    assert_eq!(scene.status(&other, &all).await, 403);
    assert_eq!(scene.status(&other, &Terms { numbers: [(0, 17)].into(), ..all.clone() }).await, 200);
    assert_eq!(scene.status(&other, &Terms { numbers: [(1, 17)].into(), ..all }).await, 403);
    scene.site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_no_token_counts() {
    let scene = Scene::new().await;
    let film = scene.store("signed", "", 3).await;
    let plain = scene.site.beside(|config| config.links = None).await;
    let token = Scene::terms(&film).sign(&scene.key);
    let path = format!("/?token={token}");
    assert_eq!(scene.site.get(&film, &path, &[]).await.status(), 200);
    assert_eq!(plain.get(&film, &path, &[]).await.status(), 403);
    plain.stop().await;
    scene.site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_counts_for_its_path_and_host_however_they_are_written() {
    let scene = Scene::new().await;
    let film = scene.store("signed", "", 5).await;
    let host = format!("{}.evernear.example", film.label);
    for signed in ["/fi lm@", "/fi%20lm@", "/%66i%20lm%40"] {
        let token = Terms { path: Some(signed.to_owned()), ..Scene::terms(&film) }.sign(&scene.key);
        let status = async |path: &str, host: &str| {
            let host = format!("host: {host}");
            scene.site.get(&film, &format!("{path}?token={token}"), &["-H", &host]).await.status()
        };
        for path in ["/fi%20lm@2.mp4", "/fi%20lm%402.mp4", "/%66%69%20lm@2%2Emp4"] {
            assert_eq!(status(path, &host).await, 200, "{signed} {path}");
            assert_eq!(status(path, &format!("{}.:80", host.to_uppercase())).await, 200, "{signed} {path}");
        }
        for path in ["/film@2.mp4", "/fi%2520lm@2.mp4", "/"] {
            assert_eq!(status(path, &host).await, 403, "{signed} {path}");
        }
    }
    scene.site.stop().await;
}
