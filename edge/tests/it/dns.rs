//! The DNS door, asked by dig, and over bare TCP where dig is too well-behaved.

use testing::noise_of;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::site::{DEADLINE, Site, label_of_nothing, other_edge};

async fn world() -> Site {
    let others = vec![
        other_edge("edge-tyo", "JP", 35.7, 139.7, "127.0.0.2"),
        other_edge("edge-nyc", "US", 40.7, -74.0, "127.0.0.3"),
    ];
    Site::with(|_| {}, others).await
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_three_continents_get_three_nearest_edges() {
    let site = world().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 50_000)).await;
    let name = format!("{}.evernear.example", stored.label);
    for (subnet, nearest, scope) in [
        ("192.0.2.0/24", "127.0.0.1", "192.0.2.0/24/24"),
        ("198.51.100.0/24", "127.0.0.2", "198.51.100.0/24/24"),
        ("203.0.113.0/24", "127.0.0.3", "203.0.113.0/24/24"),
    ] {
        let answer = site.dig(&[&name, "A", &format!("+subnet={subnet}")]).await;
        let first = answer.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{answer}"));
        assert!(first.ends_with(nearest), "{answer}");
        assert!(answer.contains(&format!("CLIENT-SUBNET: {scope}")) && answer.contains("flags: qr aa rd;"), "{answer}");
    }
    // Over TCP, in capitals, and by the resolver's own address.
    let answer = site.dig(&[&name.to_uppercase(), "A", "+tcp", "+short"]).await;
    assert_eq!(answer.lines().next(), Some("127.0.0.1"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_there_do_not_exist() {
    let site = world().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let mut wrong = stored.label.clone().into_bytes();
    wrong[20] = if wrong[20] == b'a' { b'b' } else { b'a' };
    let wrong = String::from_utf8(wrong).unwrap();
    // A wrong label costs no look-up: only a well-formed one that nobody knows does.
    for (name, status, looks_up) in [
        (format!("{wrong}.evernear.example"), "NXDOMAIN", false),
        (format!("{}.evernear.example", label_of_nothing()), "NXDOMAIN", true),
        (format!("x.{}.evernear.example", stored.label), "NXDOMAIN", false),
        ("_acme-challenge.evernear.example".into(), "NXDOMAIN", false),
        ("example.com".into(), "REFUSED", false),
        (".".into(), "REFUSED", false),
    ] {
        let before = site.weather.look_ups();
        let answer = site.dig(&[&name, "A"]).await;
        assert_eq!(site.weather.look_ups() > before, looks_up, "{name}");
        assert!(answer.contains(&format!("status: {status}")), "{answer}");
        assert_eq!(answer.contains("SOA"), status == "NXDOMAIN", "{answer}");
    }
    let aaaa = site.dig(&[&format!("{}.evernear.example", stored.label), "AAAA"]).await;
    assert!(aaaa.contains("status: NOERROR") && aaaa.contains("ANSWER: 0") && aaaa.contains("SOA"), "{aaaa}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_speaks_for_itself() {
    let site = world().await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let name = format!("{}.evernear.example", stored.label);
    let soa = site.dig(&["evernear.example", "SOA", "+short"]).await;
    assert!(soa.starts_with("ns1.evernear.example. hostmaster.evernear.example. 1 "), "{soa}");
    assert_eq!(site.dig(&["evernear.example", "NS", "+short"]).await.trim(), "ns1.evernear.example.");
    assert_eq!(site.dig(&["ns1.evernear.example", "A", "+short"]).await.trim(), "127.0.0.1");
    assert_eq!(site.dig(&[&name, "TXT", "+short"]).await.trim(), "\"v=1 size=5 type=text/plain\"");
    assert_eq!(site.dig(&[&name, "ANY", "+short", "+notcp"]).await.trim(), "\"RFC8482\" \"\"");
    let https = site.dig(&[&name, "HTTPS"]).await;
    assert!(https.contains("ANSWER: 0"), "no HTTPS record without TLS: {https}");
    let version = site.dig(&[&name, "A", "+edns=1", "+noednsnegotiation"]).await;
    assert!(version.contains("status: BADVERS"), "{version}");
    let chaos = site.dig(&["version.bind", "CH", "TXT"]).await;
    assert!(chaos.contains("status: REFUSED"), "{chaos}");
    let large = site.dig(&[&name, "A", "+bufsize=4096"]).await;
    assert!(large.contains("udp: 1232"), "{large}");
    assert!(site.metrics().await.contains("evernear_edge_dns_answers_total{kind=\"SOA\",rcode=\"NOERROR\"} 1"));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_without_origins_still_answers_with_the_nearest() {
    let site = world().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 50_000)).await;
    site.weather.down();
    let name = format!("{}.evernear.example", stored.label);
    let answer = site.dig(&[&name, "A", "+subnet=198.51.100.0/24"]).await;
    let first = answer.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{answer}"));
    assert!(first.ends_with("127.0.0.2") && first.contains(" 5 IN A "), "{answer}");
    assert_eq!(site.counter("evernear_edge_dns_failed_open_total").await, 1);
    site.stop().await;
}

/// `evernear.example SOA?`, framed for TCP.
fn question(id: u8) -> Vec<u8> {
    let head = [0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let message = [&head[..], b"\x08evernear\x07example\0", &[0, 6, 0, 1]].concat();
    [&[0, u8::try_from(message.len()).unwrap()][..], &message].concat()
}

async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let length = usize::from(stream.read_u16().await.unwrap());
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.unwrap();
    message
}

/// Whether the other side closes the connection without another byte.
async fn is_closed(stream: &mut TcpStream) -> bool {
    timeout(DEADLINE, stream.read(&mut [0])).await.unwrap().is_ok_and(|read| read == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_connections_are_counted_answered_in_order_and_closed_when_idle() {
    let site =
        Site::with(|config| (config.dns.connections_per_address_max, config.dns.idle_seconds) = (2, 2), vec![]).await;
    let connect = || TcpStream::connect(site.edge.dns.unwrap());
    let (mut first, mut idle) = (connect().await.unwrap(), connect().await.unwrap());
    first.write_all(&[question(1), question(2)].concat()).await.unwrap();
    for id in [1, 2] {
        let message = answer(&mut first).await;
        // The same id, an answer, no error, one record.
        assert_eq!((message[1], message[2] & 0x80, message[3] & 0x0f, message[7]), (id, 0x80, 0, 1));
    }
    assert!(is_closed(&mut connect().await.unwrap()).await, "a third connection was taken");
    // Half a question is as good as none.
    idle.write_all(&question(3)[..9]).await.unwrap();
    assert!(is_closed(&mut idle).await);
    let mut other = connect().await.unwrap();
    // An answer is no question.
    let mut reflected = question(4);
    reflected[4] |= 0x80;
    other.write_all(&reflected).await.unwrap();
    assert!(is_closed(&mut other).await);
    site.stop().await;
}
