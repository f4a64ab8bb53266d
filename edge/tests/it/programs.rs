//! Programs that people put before an edge, or ask it with: curl's upgrade to HTTP/2, a balancer's check, apt.

use std::{fs, process::Stdio};

use testing::{free_port, noise_of, until};
use tokio::process::{Child, Command};

use crate::site::{Site, Stored};

fn host(stored: &Stored) -> String {
    format!("{}.evernear.example", stored.label)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_that_would_rather_speak_http_2_is_answered_in_clear_either_way() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 300_000)).await;
    // Asks for an upgrade, which the edge leaves aside, on one connection twice.
    let asked = ["--http2", "-o", "/dev/null", "-w", "%{http_version} %{num_connects}\n"];
    let again = format!("http://{}:{}/", host(&stored), site.edge.http.port());
    let answer = site.get(&stored, "/", &[&asked[..], &[&again, "-o", "/dev/null"]].concat()).await;
    let said = String::from_utf8_lossy(answer.body()).into_owned();
    assert_eq!(said, "1.1 1\n1.1 0\n", "{}", answer.head);
    for (how, says) in [("--http2", "HTTP/1.1 200"), ("--http2-prior-knowledge", "HTTP/2 200")] {
        let answer = site.get(&stored, "/", &[how]).await;
        assert!(answer.head.starts_with(says) && answer.body() == stored.bytes, "{how}: {}", answer.head);
    }
    site.stop().await;
}

/// A balancer, told to check with what it asks when nothing is said: `OPTIONS / HTTP/1.0` without a Host.
fn haproxy(folder: &std::path::Path, edge: std::net::SocketAddr, [viewers, told]: [u16; 2]) -> Child {
    let config = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         frontend viewers\n bind 127.0.0.1:{viewers}\n default_backend edges\n\
         frontend told\n bind 127.0.0.1:{told}\n stats enable\n stats uri /\n\
         backend edges\n option httpchk\n server edge {edge} check inter 100ms fall 1 rise 1\n"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let started =
        Command::new("haproxy").arg("-db").arg("-f").arg(file).stdin(Stdio::null()).kill_on_drop(true).spawn();
    started.expect("haproxy is installed: `./x setup --test`")
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_finds_an_edge_well_by_its_default_check() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 300_000)).await;
    let folder = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port()];
    let balancer = haproxy(folder.path(), site.edge.http, ports);
    let check = async || {
        let url = format!("http://127.0.0.1:{}/;csv", ports[1]);
        let told = Command::new("curl").args(["-sS", &url]).output().await.unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let field = |line: &str, name: &str| {
            let at = told.lines().next()?.trim_start_matches("# ").split(',').position(|it| it == name)?;
            line.split(',').nth(at).map(str::to_owned)
        };
        let line = told.lines().find(|line| line.starts_with("edges,edge,"))?;
        Some((field(line, "status")?, field(line, "check_status")?, field(line, "check_code")?))
    };
    until("the first check", async || check().await.is_some_and(|(_, how, _)| how.starts_with("L7"))).await;
    let (status, how, code) = check().await.unwrap();
    assert_eq!((&*status, &*how), ("UP", "L7OK"), "the check was answered with {code}");
    let through = format!("{}:{}:127.0.0.1", host(&stored), ports[0]);
    let url = format!("http://{}:{}/", host(&stored), ports[0]);
    let got = Command::new("curl").args(["-sS", "--resolve", &through, &url]).output().await.unwrap();
    assert!(got.stdout == stored.bytes, "{} bytes through the balancer", got.stdout.len());
    drop(balancer);
    site.stop().await;
}

mod needs_root {
    use aws_lc_rs::digest::{SHA256, digest};
    use data_encoding::HEXLOWER;
    use format::Kind;

    use super::*;

    /// apt's own client sends requests ahead on one connection, for it knows the hashes of what it will get.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs root"]
    async fn apt_has_every_file_though_it_sends_requests_ahead() {
        const FILES: usize = 12;
        let site = Site::start().await;
        let mut files = Vec::new();
        for number in 0..FILES {
            // Small ones, one that is ready the second time, and one of many blocks.
            let bytes = [100, 5_000, 200_000, 1_500_000][number % 4];
            files.push(site.store("a.deb", "application/octet-stream", noise_of(number as u64, bytes)).await);
        }
        let names: Vec<String> = (0..FILES).map(|number| format!("{number}.deb")).collect();
        let entries: Vec<_> = names.iter().zip(&files).map(|(name, file)| (&**name, file, Kind::File)).collect();
        let folder = site.store_directory(&entries).await;

        let here = tempfile::tempdir().unwrap();
        let hosts = here.path().join("hosts");
        fs::write(&hosts, format!("127.0.0.1 {}\n", host(&folder))).unwrap();
        for round in 0..3 {
            let mut apt = Command::new("unshare");
            let bound = "mount --bind \"$0\" /etc/hosts && exec /usr/lib/apt/apt-helper \"$@\"";
            apt.args(["--mount", "sh", "-c", bound]).arg(&hosts);
            apt.args(["-o", "APT::Sandbox::User=root", "-o", "Debug::Acquire::http=true", "-o", "Acquire::Retries=0"]);
            apt.arg("download-file");
            for (name, file) in names.iter().zip(&files) {
                let hash = HEXLOWER.encode(digest(&SHA256, &file.bytes).as_ref());
                let port = site.edge.http.port();
                apt.arg(format!("http://{}:{port}/{name}", host(&folder))).arg(here.path().join(name));
                apt.arg(format!("SHA256:{hash}"));
            }
            let output = apt.stdin(Stdio::null()).output().await.unwrap();
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(output.status.success(), "{said}");
            for (name, file) in names.iter().zip(&files) {
                assert!(fs::read(here.path().join(name)).unwrap() == file.bytes, "round {round}, {name}: {said}");
                fs::remove_file(here.path().join(name)).unwrap();
            }
            // Two requests with no answer between them: it sent ahead.
            let marks: String = said
                .lines()
                .filter_map(|line| match line {
                    line if line.starts_with("GET /") => Some('?'),
                    line if line.starts_with("Answer for:") => Some('!'),
                    _ => None,
                })
                .collect();
            assert!(marks.contains("??"), "apt sent nothing ahead: {marks}");
        }
        site.stop().await;
    }
}
