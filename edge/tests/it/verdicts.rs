//! What verdicts of owners look like from outside: refusals, what is hidden, listings and redirects.

use format::{Kind, PolicyName};

use crate::{
    guest::{MEMORY, component, serve_wat},
    policy::publish_component,
    site::{Curl, Site, Stored, label_of_nothing},
};

const ALLOW: u32 = 0;
const DENY: u32 = 1;
const REDIRECT: u32 = 2;
const CHALLENGE: u32 = 3;
const HIDE: u32 = 4;

const PRIVATE: u32 = 2;
const NO_STORE: u32 = 4;
const NOINDEX: u32 = 64;

/// What every verdict adds.
const CONFIG: &str = "header-set = [{ x-own = \"1\", content-security-policy = \"default-src *\", \
    content-type = \"text/plain\" }]\ntarget = [{ url = \"/elsewhere\" }]\n";

/// Publishes a policy that says the same of every request, for a minute.
async fn says(site: &Site, outcome: u32, marks: u32) -> PolicyName {
    let bytes = [(0, outcome), (8, 60), (20, marks), (24, 1)];
    let body: String =
        bytes.iter().map(|(at, value)| format!("(i32.store8 (i32.const {at}) (i32.const {value}))")).collect();
    let name: PolicyName = format!("says-{outcome}-{marks}").parse().unwrap();
    publish_component(site, &component(&serve_wat(MEMORY, &body)), &name, 1, CONFIG).await;
    name
}

async fn file(site: &Site, policy: &PolicyName) -> Stored {
    site.store_as("a.txt", "text/plain", policy.as_str().into(), Kind::File, policy).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_to_caches_what_its_policy_says() {
    let site = Site::start().await;
    for (marks, control, robots) in [
        (0, "public, max-age=60", None),
        (PRIVATE, "private, max-age=60", None),
        (NO_STORE, "no-store", None),
        (NO_STORE | NOINDEX, "no-store", Some("noindex")),
    ] {
        let stored = file(&site, &says(&site, DENY, marks).await).await;
        let refused = site.get(&stored, "/", &[]).await;
        assert_eq!((refused.status(), refused.field("cache-control")), (403, Some(control)), "{}", refused.head);
        assert_eq!((refused.field("x-own"), refused.field("x-robots-tag")), (Some("1"), robots), "{}", refused.head);
    }
    site.stop().await;
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
//= type=test
//# The server generating a 401 response MUST send a WWW-Authenticate header field (Section 11.6.1) containing at least one
//# challenge applicable to the target resource.
#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_says_how_it_is_met() {
    let site = Site::start().await;
    let stored = file(&site, &says(&site, CHALLENGE, 0).await).await;
    let challenged = site.get(&stored, "/", &[]).await;
    assert_eq!((challenged.status(), challenged.field("www-authenticate")), (401, Some("Signed-Link")));
    site.stop().await;
}

/// Returns an answer without what is another each time.
fn settled(answer: &Curl) -> (Vec<&str>, String) {
    let changes = ["date: ", "x-request-id: "];
    let lines = answer.head.lines().filter(|line| !changes.iter().any(|name| line.starts_with(name)));
    let id = answer.field("x-request-id").unwrap();
    (lines.collect(), String::from_utf8_lossy(answer.body()).replace(id, "ID"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_is_told_apart_by_nothing_from_what_is_not_there() {
    let site = Site::start().await;
    for marks in [0, PRIVATE, NO_STORE, NOINDEX] {
        let stored = file(&site, &says(&site, HIDE, marks).await).await;
        for accept in ["accept: text/html", "accept: application/json"] {
            for path in ["/", "/a.txt", "/a/b"] {
                let hidden = site.get(&stored, path, &["-H", accept]).await;
                let host = format!("{}.evernear.example", label_of_nothing());
                let nothing = site.curl(&host, path, &["-H", accept]).await;
                // Whom it is hidden from may hang on who asks, and no field may tell on what.
                assert_eq!(
                    (hidden.status(), hidden.field("cache-control")),
                    (404, Some("no-store")),
                    "{}",
                    hidden.head
                );
                assert_eq!(settled(&hidden), settled(&nothing), "{marks} {path}");
            }
        }
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_and_redirects_say_what_the_owner_says_and_a_listing_stays_the_edge_s_page() {
    let site = Site::start().await;
    let policy = says(&site, ALLOW, NOINDEX).await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let below = site.store_directory(&[("a.txt", &file, Kind::File)]).await;
    let root = site.store_directory_as(&[("below", &below, Kind::Directory)], &policy).await;
    let told = |answer: &Curl| {
        let field = |name| answer.field(name).map(str::to_owned);
        (answer.status(), field("x-own"), field("x-robots-tag"))
    };
    let (own, noindex) = (Some("1".to_owned()), Some("noindex".to_owned()));

    let listing = site.get(&root, "/", &[]).await;
    assert_eq!(told(&listing), (200, own.clone(), noindex.clone()), "{}", listing.head);
    assert_eq!(listing.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(listing.field("content-security-policy").unwrap().starts_with("default-src 'none';"), "{}", listing.head);

    let slash = site.get(&root, "/below", &[]).await;
    assert_eq!(told(&slash), (308, own.clone(), noindex), "{}", slash.head);
    let sent_on = self::file(&site, &says(&site, REDIRECT, 0).await).await;
    let sent_on = site.get(&sent_on, "/", &[]).await;
    assert_eq!(told(&sent_on), (302, own, None), "{}", sent_on.head);
    assert_eq!(sent_on.field("location"), Some("/elsewhere"));
    site.stop().await;
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
//= type=test
//# If the field value is "*", the condition is true if the origin server has a current representation for the
//# target resource.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_no_tag_and_is_there() {
    let site = Site::start().await;
    let file = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let root = site.store_directory(&[("a.txt", &file, Kind::File)]).await;
    let whole = site.get(&root, "/", &[]).await;
    for (condition, status) in [
        ("if-none-match: *", 304),
        ("if-none-match: \"x\"", 200),
        ("if-none-match: \"\"", 200),
        ("if-match: *", 200),
        ("if-match: \"x\"", 412),
        ("if-match: \"\"", 412),
        ("if-modified-since: Fri, 01 Jan 2100 00:00:00 GMT", 200),
        ("if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ] {
        let answer = site.get(&root, "/", &["-H", condition]).await;
        assert_eq!(answer.status(), status, "{condition}: {}", answer.head);
        if status == 200 {
            assert!(answer.body() == whole.body(), "{condition}");
        } else if status == 304 {
            assert_eq!((answer.body(), answer.field("content-length")), (&b""[..], None));
            assert_eq!(answer.field("cache-control"), whole.field("cache-control"));
        }
    }
    site.stop().await;
}
