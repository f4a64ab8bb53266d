//! Signing in to the console, what a browser may do then, and what pages of others may not.

use api::{Scope, Store};
use reqwest::RequestBuilder;
use serde_json::json;

use crate::{
    client::{Answer, Client, send},
    service::Service,
};

/// A browser: it has a cookie and what its page keeps, and says whose page asks.
pub(crate) struct Browser {
    client: Client,
    host: String,
    cookie: Option<String>,
    field: String,
}

impl Browser {
    pub(crate) fn new(service: &Service) -> Self {
        Self { client: service.client_with(None), host: service.address.to_string(), cookie: None, field: "1".into() }
    }

    /// Begins a request as the console's page does.
    pub(crate) fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let own = format!("http://{}", self.host);
        self.bare(method, path)
            .header("x-evernear-console", &self.field)
            .header("origin", own)
            .header("sec-fetch-site", "same-origin")
    }

    /// Begins a request that only the cookie goes with.
    fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.client.ask(method, path);
        match &self.cookie {
            Some(cookie) => request.header("cookie", format!("theme=dark; {cookie}")),
            None => request,
        }
    }

    pub(crate) async fn sign_in_by_link(&mut self, service: &Service) {
        let (key, _) = key(service).await;
        let signed = self.sign_in(json!({ "key": key })).await;
        assert_eq!(signed.status, 200, "{signed:?}");
    }

    async fn sign_in(&mut self, by: serde_json::Value) -> Answer {
        let answer = send(self.ask("POST", "/console/session").body(by.to_string())).await;
        if answer.status == 200 {
            answer.text("field").clone_into(&mut self.field);
            let set = answer.field("set-cookie");
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        answer
    }
}

/// Returns the key of a fresh link, and the link without it.
async fn key(service: &Service) -> (String, String) {
    let link = api::console_link(&service.state).await.unwrap();
    let (page, key) = link.expose().split_once("#key=").unwrap();
    (key.to_owned(), page.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_come_with_a_policy_and_a_browser_is_sent_there() {
    let service = Service::start().await;
    let client = service.client_with(None);
    let page = client.ask("GET", "/console/").send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.headers()["cache-control"].to_str().unwrap()), (200, "no-cache"));
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.contains("http://*.localhost:8080") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(page.headers()[name], value);
    }
    let plain = page.bytes().await.unwrap();
    let coded = client.ask("GET", "/console/").header("accept-encoding", "zstd, gzip").send().await.unwrap();
    if coded.headers().get("content-encoding").is_some_and(|coding| coding == "zstd") {
        let coded = coded.bytes().await.unwrap();
        assert!(zstd::bulk::decompress(&coded, plain.len()).unwrap() == plain);
    }
    // Every file that the page names is there, and for ever.
    let html = String::from_utf8(plain.to_vec()).unwrap();
    for name in html.split(['"', '\'']).filter(|text| text.ends_with(".js") || text.ends_with(".css")) {
        let path = format!("/console/{}", name.trim_start_matches("./").trim_start_matches("/console/"));
        let file = client.ask("GET", &path).send().await.unwrap();
        assert_eq!(file.status(), 200, "{path}");
        assert_eq!(file.headers()["cache-control"], "public, max-age=31536000, immutable");
    }
    for path in ["/console/nothing.js", "/console/..%2fapi.sqlite", "/console/..%2f..%2fCargo.toml"] {
        assert_eq!(client.get(path).await.status, 404, "{path}");
    }
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for (path, status) in [("/", 302), ("/console", 302), ("/console/", 200), ("/files", 401)] {
        let ask = browser.get(format!("http://{}{path}", service.address)).header("accept", "text/html,*/*;q=0.8");
        let answer = ask.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        if status == 302 {
            assert_eq!(answer.headers()["location"], "/console/");
        }
    }
    let listed = service.client().ask("GET", "/").header("accept", "text/html");
    assert_eq!(send(listed).await.status, 200, "a program with a token lists there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_signs_one_browser_in_once_as_an_admin() {
    let mut service = Service::start().await;
    let (key, page) = key(&service).await;
    assert_eq!(page, format!("http://{}/console/", service.address));
    let mut browser = Browser::new(&service);
    assert_eq!(send(browser.ask("GET", "/console/session")).await.status, 401);
    let signed = browser.sign_in(json!({ "key": key })).await;
    assert_eq!(signed.status, 200, "{signed:?}");
    assert_eq!(signed.field("cache-control"), "no-store");
    let cookie = signed.field("set-cookie");
    assert!(cookie.starts_with("evernear-console="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"), "{cookie}");
    let session = send(browser.ask("GET", "/console/session")).await;
    assert_eq!(
        (session.status, session.text("scope"), session.text("token")),
        (200, "admin", "console"),
        "{session:?}"
    );
    assert_eq!(session.text("urlPattern"), "http://{label}.localhost:8080/{name}");
    assert_eq!(session.text("owner"), service.twin.owner().to_string());

    let second = Browser::new(&service).sign_in(json!({ "key": key })).await;
    assert_eq!((second.status, second.body["error"]["code"].as_str()), (401, Some("ERROR_LINK_SPENT")), "{second:?}");
    assert!(second.message().contains("evernear twin console"), "{second:?}");

    // The session is a token's in everything else: uploads, the log, a restart.
    let stored = send(browser.ask("PUT", "/files/a.txt").body("abc")).await;
    assert_eq!(stored.status, 201, "{stored:?}");
    let log = send(browser.ask("GET", "/audit")).await;
    let actions: Vec<_> =
        log.body["value"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["PUT /files/{id}", "POST /console/session"]);
    service.stop().await;
    service.start_again().await;
    browser = Browser { cookie: browser.cookie, field: browser.field, ..Browser::new(&service) };
    assert_eq!(send(browser.ask("GET", "/files")).await.body["count"], 1);

    let out = send(browser.ask("DELETE", "/console/session")).await;
    assert_eq!(out.status, 204, "{out:?}");
    assert!(out.field("set-cookie").contains("Max-Age=0"), "{out:?}");
    let after = send(browser.ask("GET", "/files")).await;
    assert_eq!((after.status, after.body["error"]["code"].as_str()), (401, Some("ERROR_SESSION_ENDED")), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_open_one_link_at_once_one_is_signed_in() {
    let service = Service::start().await;
    for _ in 0..5 {
        let (key, _) = key(&service).await;
        let signing = (0..8).map(|_| async {
            let mut browser = Browser::new(&service);
            browser.sign_in(json!({ "key": key })).await.status
        });
        let all = futures::future::join_all(signing).await;
        assert_eq!(all.iter().filter(|status| **status == 200).count(), 1, "{all:?}");
        assert!(all.iter().all(|status| matches!(status, 200 | 401)), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_older_than_ten_minutes_signs_nobody_in() {
    let service = Service::start().await;
    let (key, _) = key(&service).await;
    let url = format!("sqlite://{}", service.state.join(api::STORE_FILE).display());
    let file = sqlx::SqlitePool::connect(&url).await.unwrap();
    let aged = sqlx::query("UPDATE console_keys SET expires = unixepoch()").execute(&file).await.unwrap();
    assert_eq!(aged.rows_affected(), 1);
    assert_eq!(Browser::new(&service).sign_in(json!({ "key": key })).await.status, 401);
    let kept: Vec<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM console_keys").fetch_all(&file).await.unwrap();
    assert!(
        !kept.iter().any(|hash| *hash == data_encoding::BASE64URL_NOPAD.decode(key.as_bytes()).unwrap()),
        "a hash alone"
    );
    file.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_signs_in_with_its_own_power_and_takes_its_sessions_with_it() {
    let service = Service::start().await;
    let read = service.token("read", Scope::Read, |_| {}).await;
    let mut browser = Browser::new(&service);
    assert_eq!(browser.sign_in(json!({ "token": read })).await.status, 200);
    assert_eq!(send(browser.ask("GET", "/files")).await.status, 200);
    assert_eq!(send(browser.ask("PUT", "/files/a").body("abc")).await.status, 403);
    assert_eq!(send(browser.ask("GET", "/tokens")).await.status, 403);

    // A command beside the twin ends it.
    let store = Store::open(&service.state).await.unwrap();
    let grant = store.find_token("read").await.unwrap().unwrap();
    store.revoke(grant.id, 7).await.unwrap();
    store.close().await;
    let ended = send(browser.ask("GET", "/files")).await;
    assert_eq!((ended.status, ended.body["error"]["code"].as_str()), (401, Some("ERROR_SESSION_ENDED")), "{ended:?}");

    let end = u64::from(u32::MAX);
    let short = service.token("short", Scope::Read, |grant| grant.expires = Some(end)).await;
    assert_eq!(browser.sign_in(json!({ "token": short })).await.status, 200);
    for (wrong, status) in [
        (json!({ "token": "evn_x" }), 401),
        (json!({ "token": read }), 401),
        (json!({ "key": "x" }), 401),
        (json!({ "key": "A".repeat(43) }), 401),
        (json!({}), 400),
        (json!({ "token": short, "key": "x" }), 400),
        (json!({ "tokens": short }), 400),
    ] {
        let answer = Browser::new(&service).sign_in(wrong.clone()).await;
        assert_eq!(answer.status, status, "{wrong}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_but_the_consoles_own_rides_on_the_cookie() {
    let service = Service::start().await;
    let (key, _) = key(&service).await;
    let mut browser = Browser::new(&service);
    browser.sign_in(json!({ "key": key })).await;
    let stored = send(browser.ask("PUT", "/files/a").body("abc")).await;
    let path = format!("/files/{}", stored.text("id"));
    let own = format!("http://{}", service.address);
    let field = ("x-evernear-console", browser.field.as_str());
    let other_port = format!("http://127.0.0.1:{}", service.address.port() - 1);
    for (why, fields) in [
        ("a form or a link of any page", vec![]),
        ("a page that may set no field", vec![("origin", own.as_str()), ("sec-fetch-site", "same-origin")]),
        ("a page of another site", vec![field, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]),
        ("one whose browser tells no site", vec![field, ("origin", "https://evil.example")]),
        ("a sandboxed frame", vec![field, ("origin", "null")]),
        ("another port of this host", vec![field, ("origin", &other_port), ("sec-fetch-site", "same-site")]),
        ("an edge's object", vec![field, ("sec-fetch-site", "same-site")]),
        (
            "a name of somebody else's that leads here",
            vec![field, ("origin", "http://evil.example:1"), ("sec-fetch-site", "same-origin")],
        ),
    ] {
        for (method, path) in [("DELETE", path.as_str()), ("GET", "/files"), ("GET", "/console/session")] {
            let ask = fields.iter().fold(browser.bare(method, path), |ask, (name, value)| ask.header(*name, *value));
            let answer = send(ask).await;
            assert_eq!(answer.status, 401, "{why}: {method} {path}: {answer:?}");
            assert_eq!(answer.field("access-control-allow-credentials"), "", "{why}");
        }
        let ask = fields
            .iter()
            .fold(browser.bare("POST", "/console/session"), |ask, (name, value)| ask.header(*name, *value));
        let answer = send(ask.body(json!({ "token": service.token }).to_string())).await;
        assert_eq!(answer.status, 403, "{why}: nobody is signed in as somebody else: {answer:?}");
    }
    // A page of a name that leads here is its own host; what keeps it out is that no cookie of ours goes there.
    let rebound = service.client_with(None).ask("GET", "/files").header(field.0, field.1);
    assert_eq!(send(rebound.header("host", "evil.example").header("origin", "http://evil.example")).await.status, 401);
    let preflight = browser.bare("OPTIONS", &path).header("origin", "https://evil.example");
    let preflight = send(preflight.header("access-control-request-headers", "x-evernear-console")).await;
    assert_eq!(preflight.field("access-control-allow-credentials"), "");
    let page = browser.bare("GET", "/console/session").header("origin", "https://evil.example");
    assert_eq!(send(page).await.field("access-control-allow-origin"), "", "none may read");
    assert_eq!(send(browser.ask("GET", &path)).await.status, 200, "nothing was erased");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_another_port_that_is_sent_the_cookie_can_do_nothing_by_it() {
    let service = Service::start().await;
    let (key, _) = key(&service).await;
    let mut browser = Browser::new(&service);
    browser.sign_in(json!({ "key": key })).await;
    let mut other = Browser::new(&service);
    other.sign_in(json!({ "token": service.token })).await;
    for field in ["1", "", &"A".repeat(43), &other.field] {
        let thief = Browser { cookie: browser.cookie.clone(), field: field.to_owned(), ..Browser::new(&service) };
        for (method, path) in [("GET", "/files"), ("GET", "/console/session"), ("DELETE", "/console/session")] {
            assert_eq!(send(thief.ask(method, path)).await.status, 401, "{field}: {method} {path}");
        }
    }
    let alone = Browser { cookie: None, field: browser.field.clone(), ..Browser::new(&service) };
    assert_eq!(send(alone.ask("GET", "/files")).await.status, 401, "nor by what the page keeps");
    assert_eq!(send(browser.ask("GET", "/files")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_signs_in_over_a_network_in_clear_unless_the_configuration_allows_it() {
    let service = Service::start().await;
    let open = Service::with(|config| config.insecure_sign_in = true).await;
    let sign_in = async |service: &Service, origin: &str, key: &str| {
        let host = origin.split_once("://").unwrap().1;
        let ask = service.client_with(None).ask("POST", "/console/session").header("x-evernear-console", "1");
        send(ask.header("host", host).header("origin", origin).body(json!({ "key": key }).to_string())).await
    };
    let (key_of_one, _) = key(&service).await;
    let refused = sign_in(&service, "http://twin.example:8081", &key_of_one).await;
    assert_eq!(
        (refused.status, &refused.body["error"]["code"]),
        (403, &json!("ERROR_INSECURE_SIGN_IN")),
        "{refused:?}"
    );
    assert!(refused.message().contains("insecure_sign_in = true"), "{refused:?}");
    assert_eq!(sign_in(&service, "https://twin.example", &key_of_one).await.status, 200, "the key was not spent");
    let (key_of_other, _) = key(&open).await;
    assert_eq!(sign_in(&open, "http://twin.example:8081", &key_of_other).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_that_are_signed_in_are_bounded_and_a_token_that_came_along_counts_alone() {
    let service = Service::start().await;
    let read = service.token("read", Scope::Read, |_| {}).await;
    let mut all = Vec::new();
    for _ in 0..17 {
        let mut browser = Browser::new(&service);
        assert_eq!(browser.sign_in(json!({ "token": read })).await.status, 200);
        all.push(browser);
    }
    let mut signed_in = 0;
    for browser in &all {
        signed_in += u32::from(send(browser.ask("GET", "/files")).await.status == 200);
    }
    assert_eq!(signed_in, 16);
    let last = all.pop().unwrap();
    assert_eq!(send(last.ask("GET", "/files")).await.status, 200, "the newest stays");
    let both = last.ask("GET", "/files").header("authorization", "Bearer evn_x");
    assert_eq!(send(both).await.body["error"]["code"], "ERROR_MALFORMED_TOKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_api_makes_links_itself_and_none_when_it_has_stopped() {
    let mut service = Service::start().await;
    let link = service.running().link().await.unwrap();
    let key = link.expose().split_once("#key=").unwrap().1.to_owned();
    assert_eq!(Browser::new(&service).sign_in(json!({ "key": key })).await.status, 200);
    service.stop().await;
    assert!(matches!(api::console_link(&service.state).await, Err(api::LinkError::Stopped { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_the_consoles_page_need_no_wish_of_its_field() {
    let service = Service::start().await;
    let (key, _) = key(&service).await;
    let mut browser = Browser::new(&service);
    browser.sign_in(json!({ "key": key })).await;
    let begun = browser.ask("POST", "/tus").header("tus-resumable", "1.0.0").header("upload-length", "3");
    let begun = send(begun).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let chunk = browser.ask("PATCH", begun.field("location")).header("tus-resumable", "1.0.0");
    let chunk = chunk.header("upload-offset", "0").header("content-type", "application/offset+octet-stream");
    assert_eq!(send(chunk.body("abc")).await.status, 204);
    let (kind, body) = crate::files::form(&[("name", "site")], &[("a/b.txt", "text/plain", b"1")]);
    assert_eq!(send(browser.ask("POST", "/files").header("content-type", kind).body(body)).await.status, 201);
    assert_eq!(send(browser.ask("GET", "/files")).await.body["count"], 2);
}
