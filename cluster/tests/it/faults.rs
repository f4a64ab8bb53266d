//! Origins that fail or come back: every edge with a cold cache gives exact bytes or an error.

use testing::noise;

use crate::made::Made;

#[tokio::test(flavor = "multi_thread")]
async fn any_two_of_six_origins_may_be_down_and_a_third_is_an_error() {
    let mut made = Made::new().await;
    let bytes = noise(2_700_000);
    let stored = made.put(&made.file("film.bin", &bytes)).await;
    for origin in [1, 4] {
        made.network.kill(origin).await.unwrap();
    }
    let (answer, body) = made.get(0, &stored, "", &[]).await;
    assert!(answer.status == 200 && body == bytes, "{}", answer.header);
    let (answer, body) = made.get(1, &stored, "", &["-r", "1000000-1999999"]).await;
    assert!(answer.status == 206 && body == bytes[1_000_000..2_000_000], "{}", answer.header);

    made.network.kill(2).await.unwrap();
    // A block on an origin that is up may begin the answer. Then the answer is cut off, and never passes for complete.
    let (answer, body) = made.get(2, &stored, "", &[]).await;
    let says_all = answer.field("content-length") == Some("2700000");
    let is_cut = says_all && !answer.ended_well && body.len() < bytes.len() && bytes.starts_with(&body);
    assert!(answer.status >= 500 || is_cut, "three of six are down: {} bytes, {}", body.len(), answer.header);
    // An edge continues to serve what it holds in its cache.
    let (answer, body) = made.get(0, &stored, "", &[]).await;
    assert!(answer.status == 200 && body == bytes);

    for origin in [1, 2, 4] {
        made.network.revive(origin).await.unwrap();
    }
    made.until(2, &stored, 200, &[]).await;
    made.network.stop().await.unwrap();
}
