//! One representation, one set of fields: what 200 says of a file, HEAD, 206 and 304 say too, by every door and under
//! every policy. A cache takes the fields of a 304 in place of those that it holds (RFC 9111 section 3.2).

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use edge::{
    Terms,
    config::{HttpsConfig, LinksConfig},
};
use format::{Kind, PolicyName};
use http::Method;
use testing::noise_of;

use crate::{
    http3::viewer,
    https::{host, start_with},
    policy::{TTL, publish_component},
    site::{Curl, Site, Stored, close},
};

const PAGES: &[u8] = include_bytes!("../../../policies/prebuilt/pages.wasm");
const SIGNED: &[u8] = include_bytes!("../../../policies/prebuilt/signed.wasm");
/// What hangs on the one answer, not on what it represents.
const OF_THE_ANSWER: [&str; 4] = ["connection", "date", "server-timing", "x-request-id"];
/// What there is only beside content.
const OF_THE_CONTENT: [&str; 3] = ["cache-status", "content-length", "content-range"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Door {
    Clear(&'static str),
    Secure(&'static str),
    Http3,
}

const DOORS: [Door; 5] = [
    Door::Clear("--http1.1"),
    Door::Clear("--http2-prior-knowledge"),
    Door::Secure("--http1.1"),
    Door::Secure("--http2"),
    Door::Http3,
];

/// What a door said.
struct Told {
    status: u16,
    /// By name in lower case; several of one name stand in their order.
    fields: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
}

impl Told {
    fn new(status: u16, fields: impl Iterator<Item = (String, String)>, body: &[u8]) -> Self {
        let mut told = Self { status, fields: BTreeMap::new(), body: body.to_vec() };
        for (name, value) in fields {
            told.fields.entry(name).or_default().push(value);
        }
        told
    }

    fn of_curl(curl: &Curl) -> Self {
        let lines = curl.head.lines().filter_map(|line| line.split_once(": "));
        let fields = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Self::new(curl.status(), fields, curl.body())
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |values| &values[0])
    }

    /// Returns the fields but those that are named.
    fn without(&self, names: &[&str]) -> BTreeMap<String, Vec<String>> {
        let kept = self.fields.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        kept.map(|(name, values)| (name.clone(), values.clone())).collect()
    }
}

struct Scene {
    https: HttpsConfig,
    site: Site,
    _folders: [tempfile::TempDir; 2],
    /// Each file with its path.
    files: Vec<(&'static str, Stored, String)>,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("zone.secret");
        close(&secret, &"5b".repeat(32));
        let links = LinksConfig { secret: secret.clone() };
        let (certificate, https, site) = start_with(false, |config| config.links = Some(links)).await;
        let key = edge::link_key(&secret, &site.owner.id()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let token = Terms { expires: Some(now + 6_000), ..Terms::default() }.sign(&key);

        let mut scene = Self { https, site, _folders: [certificate, folder], files: Vec::new() };
        for (name, component, config) in [
            ("pages", PAGES, ""),
            ("own-pages", PAGES, "csp = \"default-src 'self'\"\nttl = 5"),
            ("never-kept", TTL, "ttl = 0"),
            ("kept", TTL, "ttl = 9\nimmutable = true\nstale-error = 7"),
            ("signed", SIGNED, "ttl = 60"),
        ] {
            let policy: PolicyName = name.parse().unwrap();
            publish_component(&scene.site, component, &policy, 1, config).await;
            let path = if name == "signed" { format!("/a.html?token={token}") } else { "/a.html".to_owned() };
            scene.file(name, name.len() * 100, &policy, path).await;
        }
        scene.file("by default", 300, &PolicyName::default(), "/".to_owned()).await;
        scene.file("of several blocks", 600_000, &"own-pages".parse().unwrap(), "/?download".to_owned()).await;
        // The same below a directory of another policy.
        let page = &scene.files[0].1;
        let directory = scene.site.store_directory(&[("index.html", page, Kind::File)]).await;
        let below = Stored { bytes: page.bytes.clone(), ..directory };
        scene.files.push(("below a directory", below, "/".to_owned()));
        scene
    }

    async fn file(&mut self, name: &'static str, length: usize, policy: &PolicyName, path: String) {
        let bytes = noise_of(self.files.len() as u64, length);
        let stored = self.site.store_as("a.html", "text/html", bytes, Kind::File, policy).await;
        self.files.push((name, stored, path));
    }

    async fn ask(&self, door: Door, (_, stored, path): &(&str, Stored, String), asked: &Asked) -> Told {
        // What curl shows of a HEAD is its head once more.
        let head = if asked.head { &["-I", "-o", "/dev/null"][..] } else { &[] };
        let field = asked.field.as_ref().map(|(name, value)| format!("{name}: {value}"));
        let field: Vec<&str> = field.iter().flat_map(|field| ["-H", field]).collect();
        let host = host(stored);
        match door {
            Door::Clear(version) => {
                Told::of_curl(&self.site.curl(&host, path, &[head, &field, &[version]].concat()).await)
            }
            Door::Secure(version) => {
                Told::of_curl(&self.site.curl_secure(&host, path, &[head, &field, &["-k", version]].concat()).await)
            }
            Door::Http3 => {
                let method = if asked.head { Method::HEAD } else { Method::GET };
                let fields: Vec<(&str, &str)> = asked.field.iter().map(|(name, value)| (*name, &**value)).collect();
                let answer = viewer(&self.https, &self.site, stored).await.ask(method, path, &fields).await;
                let said =
                    answer.fields.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
                Told::new(answer.status.as_u16(), said, &answer.body)
            }
        }
    }
}

/// A request.
#[derive(Debug, Default)]
struct Asked {
    head: bool,
    field: Option<(&'static str, String)>,
}

impl Asked {
    fn with(name: &'static str, value: impl Into<String>) -> Self {
        Self { head: false, field: Some((name, value.into())) }
    }
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
//= type=test
//# The server generating a 304 response MUST generate any of the following header fields that would have been sent in a
//# 200 (OK) response to the same request
#[tokio::test(flavor = "multi_thread")]
async fn a_304_a_206_and_a_head_say_what_the_200_says() {
    let scene = Scene::new().await;
    for file in &scene.files {
        // What is kept is here from now on.
        scene.ask(DOORS[0], file, &Asked::default()).await;
        for door in DOORS {
            let what = format!("{} by {door:?}", file.0);
            let whole = scene.ask(door, file, &Asked::default()).await;
            assert!(whole.status == 200 && whole.body == file.1.bytes, "{what}: {}", whole.status);
            let fields = whole.without(&OF_THE_ANSWER);
            let told_always = whole.without(&[&OF_THE_ANSWER[..], &OF_THE_CONTENT].concat());
            assert!(told_always.len() > 10, "{what}: {told_always:?}");

            let head = scene.ask(door, file, &Asked { head: true, field: None }).await;
            assert_eq!(
                (head.status, head.without(&OF_THE_ANSWER), head.body.len()),
                (200, fields.clone(), 0),
                "{what}"
            );
            let other = scene.ask(door, file, &Asked::with("if-none-match", "\"other\"")).await;
            assert_eq!((other.status, other.without(&OF_THE_ANSWER)), (200, fields.clone()), "{what}");

            for field in [("if-none-match", whole.field("etag")), ("if-modified-since", whole.field("last-modified"))] {
                for head in [false, true] {
                    let asked = Asked { head, ..Asked::with(field.0, field.1) };
                    let same = scene.ask(door, file, &asked).await;
                    assert_eq!((same.status, same.body.len()), (304, 0), "{what} {asked:?}");
                    assert_eq!(same.without(&OF_THE_ANSWER), told_always, "{what} {asked:?}");
                }
            }

            let part = scene.ask(door, file, &Asked::with("range", "bytes=1-3")).await;
            let told = part.without(&[&OF_THE_ANSWER[..], &["content-length", "content-range"]].concat());
            let expected = whole.without(&[&OF_THE_ANSWER[..], &["content-length"]].concat());
            assert_eq!((part.status, told, &part.body[..]), (206, expected, &file.1.bytes[1..4]), "{what}");
            assert_eq!(part.field("content-range"), format!("bytes 1-3/{}", whole.body.len()), "{what}");

            let parts = scene.ask(door, file, &Asked::with("range", "bytes=0-0,200-201")).await;
            let told = parts.without(&[&OF_THE_ANSWER[..], &["content-length", "content-type"]].concat());
            let expected = whole.without(&[&OF_THE_ANSWER[..], &["content-length", "content-type"]].concat());
            assert_eq!((parts.status, told), (206, expected), "{what}");
            assert!(parts.field("content-type").starts_with("multipart/byteranges; boundary="), "{what}");
            let of_each = format!("\r\nContent-Type: {}\r\nContent-Range: ", whole.field("content-type"));
            assert_eq!(String::from_utf8_lossy(&parts.body).matches(&of_each).count(), 2, "{what}");

            // Refusals are pages of the edge's own, and no cache takes them for the file.
            for (asked, status) in
                [(Asked::with("range", "bytes=999999-"), 416), (Asked::with("if-match", "\"other\""), 412)]
            {
                let refused = scene.ask(door, file, &asked).await;
                assert_eq!((refused.status, refused.field("cache-control")), (status, "no-store"), "{what}");
                assert_eq!((refused.field("etag"), refused.field("last-modified")), ("", ""), "{what}");
                let length = if status == 416 { format!("bytes */{}", whole.body.len()) } else { String::new() };
                assert_eq!(refused.field("content-range"), length, "{what}");
            }
        }
    }
    let csp = async |at: usize| {
        let same = Asked::with("if-none-match", "*");
        scene.ask(DOORS[0], &scene.files[at], &same).await.field("content-security-policy").to_owned()
    };
    assert!(csp(0).await.starts_with("default-src 'self' 'unsafe-inline'"), "{}", csp(0).await);
    assert_eq!((csp(1).await, csp(2).await), ("default-src 'self'".to_owned(), "sandbox allow-downloads".to_owned()));
    scene.site.stop().await;
}
