//! What an owner does beside storing: names, tokens, health, purges, policies, the network.

use std::time::Duration;

use api::Scope;
use serde_json::{Value, json};
use testing::noise;

use crate::{
    client::{Answer, Client, send},
    service::Service,
};

async fn put(client: &Client, path: &str, body: Value) -> Answer {
    send(client.ask("PUT", path).body(body.to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_made_moved_renewed_and_ended_and_tells_its_past() {
    let service = Service::start().await;
    let client = service.client();
    let [one, two] = [client.put("one", "1").await, client.put("two", noise(300_000)).await];
    let made = put(&client, "/names/my%20site", json!({ "file": one.text("id") })).await;
    assert_eq!((made.status, made.text("name"), made.text("state")), (200, "my site", "fresh"), "{made:?}");
    assert_eq!(service.read(made.body["value"]["target"]["label"].as_str().unwrap(), &[]).await.unwrap(), b"1");
    assert!(made.text("url").contains(made.text("label")), "{made:?}");
    let moved =
        put(&client, "/names/my%20site", json!({ "label": two.text("url"), "seconds": 5, "freshUntil": "+10d" })).await;
    assert_eq!((moved.status, moved.text("label")), (200, made.text("label")), "{moved:?}");
    assert_eq!(
        (&moved.body["value"]["seconds"], &moved.body["value"]["target"]["id"]),
        (&json!(5), &json!(two.text("id")))
    );
    let renewed = put(&client, "/names/my%20site", json!({ "freshUntil": "+60d" })).await;
    assert!(renewed.status == 200 && renewed.text("freshUntil") > moved.text("freshUntil"), "{renewed:?}");
    let names = client.get("/names").await;
    let history = names.body["value"][0]["history"].as_array().unwrap();
    let ids: Vec<_> = history.iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [two.text("id"), two.text("id"), one.text("id")]);
    assert_eq!(history[2]["path"], "one");

    // What it stood for is erased: its past says so.
    client.delete(&format!("/files/{}", one.text("id"))).await;
    let past = &client.get("/names").await.body["value"][0]["history"][2];
    assert_eq!((&past["id"], &past["label"]), (&Value::Null, &Value::Null));
    for (body, status) in [
        (json!({ "file": one.text("id") }), 404),
        (json!({ "file": two.text("id"), "label": two.text("label") }), 400),
        (json!({ "label": "x" }), 400),
        (json!({ "label": made.text("label") }), 400),
        (json!({ "seconds": 100_000 }), 400),
        (json!({ "freshUntil": "never" }), 400),
        (json!({ "freshUntil": "+1d" }), 409),
        (json!({ "colour": "red" }), 400),
    ] {
        let answer = put(&client, "/names/my%20site", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    assert_eq!(put(&client, "/names/other", json!({})).await.status, 404, "nothing to renew");
    assert_eq!(client.delete("/names/other").await.status, 404);
    assert_eq!(client.delete("/names/my%20site").await.status, 200);
    assert_eq!(client.get("/names").await.body["value"], json!([]));
    let back = put(&client, "/names/my%20site", json!({ "file": two.text("id") })).await;
    assert!(back.status == 410 && back.message().contains("cannot come back"), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_writes_points_names_and_neither_ends_them_nor_changes_policies() {
    let service = Service::start().await;
    let (admin, writer) =
        (service.client(), service.client_with(Some(&service.token("write", Scope::Write, |_| {}).await)));
    let one = writer.put("one", "1").await;
    assert_eq!(put(&writer, "/names/site", json!({ "file": one.text("id") })).await.status, 200);
    assert_eq!(put(&writer, "/names/site", json!({})).await.status, 200);
    let text = "[[link]]\nuse = \"goe\"\n";
    assert_eq!(send(writer.ask("POST", "/policies/check").body(text)).await.status, 200);
    for refused in [writer.ask("PUT", "/policies/short").body(text), writer.ask("DELETE", "/names/site")] {
        let answer = send(refused).await;
        assert!(answer.status == 403 && answer.message().contains("scope admin"), "{answer:?}");
    }
    assert_eq!(admin.get("/names").await.body["value"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get("/policies").await.body["value"], json!([]));
    assert_eq!(admin.delete("/names/site").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_makes_tokens_that_count_until_they_are_ended() {
    let service = Service::start().await;
    let client = service.client();
    let body = json!({ "name": "ci", "scope": "write", "quota": 1000, "expires": "+1d", "rate": 7 });
    let made = send(client.ask("POST", "/tokens").body(body.to_string())).await;
    assert_eq!((made.status, made.text("name"), made.text("scope")), (201, "ci", "write"), "{made:?}");
    assert_eq!(made.field("cache-control"), "no-store");
    let ci = service.client_with(Some(made.text("token")));
    assert_eq!(ci.put("a", vec![7; 900]).await.status, 201);
    assert_eq!(ci.put("b", vec![7; 900]).await.status, 507);
    let tokens = client.get("/tokens").await;
    let line = tokens.body["value"].as_array().unwrap().iter().find(|line| line["name"] == "ci").unwrap();
    assert_eq!((&line["used"], &line["quota"], &line["rate"]), (&json!(900), &json!(1000), &json!(7)), "{line}");
    assert!(line["expires"].as_str().unwrap() > line["created"].as_str().unwrap(), "{line}");
    assert!(!tokens.body.to_string().contains(made.text("token")), "it is shown once");
    for (body, status) in [
        (json!({ "name": "ci", "scope": "read" }), 409),
        (json!({ "name": "", "scope": "read" }), 400),
        (json!({ "name": "a", "scope": "root" }), 400),
        (json!({ "name": "a", "scope": "read", "rate": 0 }), 400),
        (json!({ "name": "a", "scope": "read", "expires": "2001-01-01" }), 400),
        (json!({ "name": "a" }), 400),
    ] {
        let answer = send(client.ask("POST", "/tokens").body(body.to_string())).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    assert_eq!(client.delete("/tokens/ci").await.status, 200);
    assert_eq!((ci.get("/files").await.status, client.delete("/tokens/ci").await.status), (401, 404));
    assert_eq!(client.get("/files").await.body["count"], 1, "what it stored stays");
    let writer = service.client_with(Some(&service.token("write", Scope::Write, |_| {}).await));
    assert_eq!(send(writer.ask("POST", "/tokens").body(r#"{"name":"up","scope":"admin"}"#)).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_none_that_outlives_it_or_has_more_and_takes_those_that_it_made_with_it() {
    let service = Service::start().await;
    let (client, end) = (service.client(), 4_000_000_000);
    let bounds = |grant: &mut api::Grant| {
        (grant.expires, grant.quota_bytes, grant.rate) = (Some(end), Some(1000), 50);
    };
    let first = service.client_with(Some(&service.token("first", Scope::Admin, bounds).await));
    let make = async |by: &Client, body: Value| send(by.ask("POST", "/tokens").body(body.to_string())).await;
    for more in [
        json!({ "expires": "never" }),
        json!({ "expires": "2099-01-01" }),
        json!({ "quota": 1001 }),
        json!({ "rate": 51 }),
    ] {
        let mut body = more.clone();
        body["name"] = "more".into();
        body["scope"] = "read".into();
        let answer = make(&first, body).await;
        assert!(answer.status == 403 && answer.message().contains("than its own"), "{more}: {answer:?}");
    }
    let second = make(&first, json!({ "name": "second", "scope": "admin" })).await;
    let value = &second.body["value"];
    assert_eq!((second.status, &value["quota"], &value["rate"]), (201, &json!(1000), &json!(50)), "{second:?}");
    assert!(value["expires"].as_str().unwrap().starts_with("2096-10-02") && value["maker"].is_string(), "{second:?}");
    let second = service.client_with(Some(second.text("token")));
    let third = make(&second, json!({ "name": "third", "scope": "read" })).await;
    let third = service.client_with(Some(third.text("token")));
    let beside = make(&client, json!({ "name": "beside", "scope": "read" })).await;
    let beside = service.client_with(Some(beside.text("token")));
    assert_eq!(third.get("/files").await.status, 200);
    assert_eq!(client.delete("/tokens/first").await.status, 200);
    for ended in [&first, &second, &third] {
        assert_eq!(ended.get("/files").await.status, 401);
    }
    assert_eq!(beside.get("/files").await.status, 200, "another's stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_makes_counts_against_its_own_bounds() {
    let service = Service::start().await;
    let bounds = |grant: &mut api::Grant| (grant.quota_bytes, grant.rate) = (Some(10_000), 1);
    let maker = service.client_with(Some(&service.token("maker", Scope::Admin, bounds).await));
    let made = send(maker.ask("POST", "/tokens").body(r#"{"name":"made","scope":"write"}"#)).await;
    let made = service.client_with(Some(made.text("token")));
    assert_eq!(made.put("a", noise(6000)).await.status, 201);
    let over = maker.put("b", noise(4001)).await;
    assert!(over.status == 507 && over.message().contains("would have 10001"), "{over:?}");
    assert_eq!(maker.put("b", noise(3000)).await.status, 201);
    let over = made.put("c", noise(1001)).await;
    assert!(over.status == 507 && over.message().contains("the token that made this one"), "{over:?}");
    let used = service.client().get("/tokens").await;
    let used: Vec<_> = used.body["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["name"].clone(), line["used"].clone()))
        .collect();
    assert!(used.contains(&(json!("maker"), json!(9000))) && used.contains(&(json!("made"), json!(6000))), "{used:?}");
    // Ten requests for a moment, of both together, and then one in a second.
    while made.get("/files").await.status == 200 {}
    let statuses = [maker.get("/files").await.status, maker.get("/files").await.status];
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(service.client().get("/files").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_called_as_the_id_of_another() {
    let service = Service::start().await;
    let client = service.client();
    let id = client.get("/tokens").await.body["value"][0]["id"].as_str().unwrap().to_owned();
    let body = json!({ "name": id, "scope": "read" }).to_string();
    let answer = send(client.ask("POST", "/tokens").body(body)).await;
    assert!(answer.status == 400 && answer.message().contains("the id of a token"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_the_name_of_the_links_token_and_what_is_made_in_the_console_outlives_its_sessions() {
    let service = Service::start().await;
    let client = service.client();
    let taken = send(client.ask("POST", "/tokens").body(r#"{"name":"console","scope":"admin"}"#)).await;
    assert!(taken.status == 400 && taken.message().contains("sign in by a link"), "{taken:?}");
    let mut browser = crate::console::Browser::new(&service);
    browser.sign_in_by_link(&service).await;
    let made = send(browser.ask("POST", "/tokens").body(r#"{"name":"ci","scope":"read"}"#)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let tokens = client.get("/tokens").await;
    let of =
        |name: &str| tokens.body["value"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!((&of("ci")["maker"], &of("admin")["maker"]), (&of("console")["id"], &Value::Null));
    assert_eq!(client.delete("/tokens/console").await.status, 200);
    assert_eq!(send(browser.ask("GET", "/files")).await.status, 401);
    assert_eq!(service.client_with(Some(made.text("token"))).get("/files").await.status, 200);
    browser.sign_in_by_link(&service).await;
    assert_eq!(send(browser.ask("GET", "/files")).await.status, 200, "the next link is of a new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_which_token_policy_or_name_a_line_is_about() {
    let service = Service::start().await;
    let client = service.client();
    let one = client.put("one", "1").await;
    let ci = send(client.ask("POST", "/tokens").body(r#"{"name":"ci","scope":"read"}"#)).await;
    client.delete(&format!("/tokens/{}", ci.text("id"))).await;
    assert_eq!(client.delete("/tokens/my%20old").await.status, 404);
    let name = put(&client, "/names/site", json!({ "file": one.text("id") })).await;
    client.delete("/names/site").await;
    let log = client.get("/audit").await;
    let lines: Vec<_> = log.body["value"].as_array().unwrap().iter().rev().skip(1).collect();
    let about: Vec<_> = lines.iter().map(|line| (line["about"].as_str(), line["status"].as_u64().unwrap())).collect();
    assert_eq!(about, [(Some("ci"), 201), (Some("ci"), 200), (None, 200), (None, 200)], "{log:?}");
    assert!(
        name.text("id").len() == 64 && lines[2]["id"] == name.text("id") && lines[3]["id"] == name.text("id"),
        "{log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_where_shards_are_and_how_many_may_be_lost() {
    let service = Service::start().await;
    let client = service.client();
    let wish = client.ask("PUT", "/files/a").header("x-evernear-profile", "2+2").body(noise(600_000));
    let path = format!("/files/{}/health", send(wish).await.text("id"));
    let whole = client.get(&path).await;
    assert_eq!((whole.status, whole.text("state")), (200, "whole"), "{whole:?}");
    let value = &whole.body["value"];
    assert_eq!((&value["data"], &value["parity"], &value["margin"]), (&json!(2), &json!(2), &json!(2)), "{value}");
    let columns = value["columns"].as_array().unwrap();
    assert_eq!(columns.len(), 4);
    for column in columns {
        assert_eq!(column["state"], "healthy", "{column}");
        assert!(column["place"].as_str().unwrap().starts_with('/') && column["node"].is_string(), "{column}");
    }
    for (lost, state) in [(0, "degraded"), (1, "in danger"), (2, "lost")] {
        service.memory.remove(&columns[lost]["node"].as_str().unwrap().parse().unwrap());
        assert_eq!(client.get(&path).await.text("state"), state);
    }
    let small = client.put("b", "abc").await;
    let small = client.get(&format!("/files/{}/health", small.text("id"))).await;
    assert_eq!((small.text("state"), &small.body["value"]["data"]), ("whole", &Value::Null), "{small:?}");
    assert_eq!(client.get(&format!("/files/{}/health", "0".repeat(64))).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_of_a_folder_is_that_of_its_weakest_file() {
    let service = Service::start().await;
    let client = service.client();
    let film = noise(600_000);
    let folder =
        crate::files::send_form(&client, "/files", &[], &[("a", "text/plain", b"1"), ("b/c", "video/mp4", &film)])
            .await;
    let path = format!("/files/{}/health", folder.text("id"));
    let whole = client.get(&path).await;
    assert_eq!(
        (whole.text("state"), &whole.body["value"]["objects"], &whole.body["value"]["checked"]),
        ("whole", &json!(4), &json!(4))
    );
    let column = whole.body["value"]["columns"][0]["node"].as_str().unwrap().to_owned();
    service.memory.remove(&column.parse().unwrap());
    assert_ne!(client.get(&path).await.text("state"), "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_goes_to_the_nodes_and_names_what_it_is_about() {
    let service = Service::start().await;
    let client = service.client();
    let id = client.put("a", "abc").await.text("id").to_owned();
    let purged = send(client.ask("POST", &format!("/files/{id}/purge"))).await;
    assert_eq!((purged.status, &purged.body["value"]["purged"]), (202, &json!(true)), "{purged:?}");
    assert_eq!(client.get("/audit").await.body["value"][0]["id"], id);
    let unknown = send(client.ask("POST", &format!("/files/{}/purge", "0".repeat(64)))).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_told_with_its_places_and_its_repairs() {
    let service = Service::start().await;
    let network = service.client().get("/network").await;
    let nodes = network.body["value"]["nodes"].as_array().unwrap();
    assert_eq!((network.status, nodes.len()), (200, 8), "{network:?}");
    assert_eq!(
        (&nodes[0]["name"], &nodes[0]["kind"], &nodes[0]["state"]),
        (&json!("o0"), &json!("origin"), &json!("up"))
    );
    assert!(nodes[0]["place"].as_str().unwrap().ends_with("/z0"), "{network:?}");
    assert_eq!(network.body["value"]["repair"]["queued"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_edges_would_refuse_is_told_with_its_line_and_not_published() {
    let service = Service::start().await;
    let client = service.client();
    std::fs::write(service.state.join("mine.wasm"), "secret").unwrap();
    for (text, line, says) in [
        ("[[link]]\nuse = \"goe\"\n".to_owned(), 1, "not ready-made"),
        ("# mine\n\n[[link]]\nuse = \"geo\"\nrecieve-deny = [\"KP\"]\n".to_owned(), 3, "did you mean receive-deny"),
        (format!("[[link]]\ncomponent = \"{}\"\n", service.state.join("mine.wasm").display()), 1, "names a file"),
        ("[[link]]\nuse =\n".to_owned(), 2, "TOML"),
    ] {
        let checked = send(client.ask("POST", "/policies/check").body(text.clone())).await;
        let value = &checked.body["value"];
        assert_eq!(
            (checked.status, &value["ok"], &value["problems"][0]["line"]),
            (200, &json!(false), &json!(line)),
            "{checked:?}"
        );
        assert!(value["problems"][0]["message"].as_str().unwrap().contains(says), "{text}: {checked:?}");
        let published = send(client.ask("PUT", "/policies/mine").body(text)).await;
        assert!(published.status == 400 && published.message().contains(says), "{published:?}");
    }
    assert_eq!(client.get("/policies").await.body["value"], json!([]));
    assert_eq!(client.get("/policies/mine/source").await.status, 404);
    for (path, body, status) in [
        ("/policies/No%20Name", "", 400),
        ("/policies/mine?expires=soon", "", 400),
        ("/policies/mine?x=1", "", 400),
        ("/policies/mine", "\u{0}", 400),
    ] {
        assert_eq!(send(client.ask("PUT", path).body(body)).await.status, status, "{path}");
    }
    let long = send(client.ask("POST", "/policies/check").body(vec![b'#'; (128 << 10) + 1])).await;
    assert_eq!(long.status, 413, "{long:?}");
}

/// Takes some seconds: each check waits for a compiler that never ends, until its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_checks_policies_keeps_nobody_from_publishing_and_others_have_their_turns() {
    let service = Service::compiled_by("/bin/sleep", "100", Duration::from_secs(1)).await;
    let [many, other] = ["many", "other"];
    let many = service.client_with(Some(&service.token(many, Scope::Write, |_| {}).await));
    let other = service.client_with(Some(&service.token(other, Scope::Write, |_| {}).await));
    let text = "[[link]]\nuse = \"ttl\"\nttl = 60\n";
    let check = |client: &Client| {
        let request = client.ask("POST", "/policies/check").body(text);
        tokio::spawn(async move { send(request).await })
    };
    let waiting: Vec<_> = (0..6).map(|_| check(&many)).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = check(&other);
    let published = send(service.client().ask("PUT", "/policies/short").body(text)).await;
    assert!(published.status == 400 && published.message().contains("longer than 1s"), "{published:?}");
    let done = || waiting.iter().filter(|it| it.is_finished()).count();
    assert!(done() < 3, "{}", done());
    let second = second.await.unwrap();
    assert!(second.status == 200 && done() < 5, "{second:?}, {}", done());
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
