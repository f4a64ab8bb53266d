//! What an edge tells those who watch it, in the form that each of them reads.

use testing::counters;
use tokio::process::Command;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_described_in_the_form_that_is_asked_for() {
    let site = Site::start().await;
    let _ = site.dig(&["evernear.example", "SOA"]).await;
    let ask = async |accept: &str| {
        let (url, accept) = (format!("http://{}/metrics", site.edge.admin.unwrap()), format!("accept: {accept}"));
        let answer = Command::new("curl").args(["-sS", "-i", "-H", &accept, &url]).output().await.unwrap();
        let answer = String::from_utf8(answer.stdout).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    };
    // As Prometheus 3 asks.
    let (head, open) =
        ask("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(open.ends_with("# EOF\n"));
    assert!(counters(&open) > 20, "{open}");
    let (head, older) = ask("*/*").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(older.contains("# TYPE evernear_edge_block_hits_total counter\n"), "{older}");
    assert_eq!(counters(&older), counters(&open));
}
