//! What `deploy/` installs on a machine: units, scripts of the package, sample configurations, the container and what
//! runs several of them. Each is run or read as the machine would.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::program::Home;

const PROGRAM: &str = "/usr/bin/evernear";
const EDGE_UNIT: &str = include_str!("../../../deploy/evernear-edge.service");
const ORIGIN_UNIT: &str = include_str!("../../../deploy/evernear-origin.service");
const UP_UNIT: &str = include_str!("../../../deploy/evernear-up.service");
const CONTAINER: &str = include_str!("../../../deploy/Containerfile");
const COMPOSE: &str = include_str!("../../../deploy/compose.yaml");
const COMPOSE_PUBLIC: &str = include_str!("../../../deploy/compose.public.yaml");
const CHART: &str = include_str!("../../../deploy/helm/evernear/Chart.yaml");
const EDGE_SAMPLE: &str = include_str!("../../../edge/edge.sample.toml");
const ORIGIN_SAMPLE: &str = include_str!("../../../origin/origin.sample.toml");
const MANIFEST: &str = include_str!("../../Cargo.toml");

fn output(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|error| panic!("{name}: {error}; `./x setup --test` installs it"))
}

/// Returns what systemd finds wrong with a unit, whose program path is replaced by that of the build.
fn verdict(home: &Home, name: &str, unit: &str) -> String {
    home.write(name, unit.replace(PROGRAM, env!("CARGO_BIN_EXE_evernear")));
    let verified = output(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(home.path().join(name)));
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() || !said.is_empty(), "{name}: {}", verified.status);
    said
}

#[test]
fn units_say_nothing_that_systemd_does_not_know() {
    let home = Home::new();
    for (name, unit) in [
        ("evernear-edge.service", EDGE_UNIT),
        ("evernear-origin.service", ORIGIN_UNIT),
        ("evernear-up.service", UP_UNIT),
    ] {
        assert_eq!(verdict(&home, name, unit), "", "{name}");
        let misspelt = unit.replace("TimeoutStopSec", "TimeoutStpSec");
        assert!(
            verdict(&home, &format!("misspelt-{name}"), &misspelt).contains("TimeoutStpSec"),
            "the judge reads keys"
        );
    }
    assert!(UP_UNIT.contains(&format!("\nExecStart={PROGRAM} up\n")));
}

/// Returns the arguments of each command in the unit files and the container.
fn commands() -> Vec<Vec<String>> {
    let of_units =
        [EDGE_UNIT, ORIGIN_UNIT].into_iter().flat_map(str::lines).filter_map(|line| line.split_once(PROGRAM));
    let mut commands: Vec<Vec<String>> =
        of_units.map(|(_, words)| words.split_whitespace().map(str::to_owned).collect()).collect();
    let line = CONTAINER.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    commands.push(serde_json::from_str(line).unwrap());
    commands
}

#[test]
fn every_command_of_units_and_container_is_one_of_the_program() {
    let (home, commands) = (Home::new(), commands());
    assert_eq!(commands.len(), 6, "{commands:?}");
    for mut words in commands {
        let config = words.pop().unwrap();
        assert!(config.starts_with("/etc/evernear/"), "{config}");
        words.push("absent.toml".to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = home.run(&words);
        assert!(done.code == 1 && done.err.contains("absent.toml"), "{words:?}: {} {}", done.code, done.err);
    }
}

/// Returns a sample with its keys in the home folder, and with ports that are free or need no root.
fn placed(home: &Home, sample: &str) -> String {
    let home = home.path().display().to_string();
    let sample = sample.replace("/etc/evernear", &home).replace("/var/lib/evernear", &home);
    sample.replace("listen = \"192.0.2.10:7400\"", "listen = \"127.0.0.1:0\"").replace("0.0.0.0:", "127.0.0.1:10")
}

#[test]
fn the_samples_of_the_package_are_configurations_of_the_program() {
    let home = Home::new();
    home.good(&["cluster", "init", "keys"]);
    for (name, role) in [("edge-brussels", "edge"), ("bru1-a", "origin")] {
        home.good(&["cluster", "issue", "keys", name, "--role", role]);
        for end in ["pem", "key"] {
            fs::copy(home.path().join(format!("keys/{name}.{end}")), home.path().join(format!("{name}.{end}")))
                .unwrap();
        }
    }
    fs::copy(home.path().join("keys/authority.pem"), home.path().join("authority.pem")).unwrap();
    let name = |end: &str| home.path().join(format!("evernear.example.{end}"));
    let made = output(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"])
            .args([
                "-subj",
                "/CN=evernear.example",
                "-addext",
                "subjectAltName=DNS:evernear.example,DNS:*.evernear.example",
            ])
            .arg("-keyout")
            .arg(name("key"))
            .arg("-out")
            .arg(name("pem")),
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    home.write("edge.toml", placed(&home, EDGE_SAMPLE));
    assert_eq!(home.good(&["edge", "check-config", "--config", "edge.toml"])["http"], "127.0.0.1:1080");
    home.write("origin.toml", placed(&home, ORIGIN_SAMPLE));
    drop(crate::road::run_origin(&home, "origin"));

    // The edge of the samples finds the origin of the samples.
    let seed = EDGE_SAMPLE.split("[[seeds]]").nth(1).unwrap();
    for key in ["name", "address"] {
        let value = seed.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap();
        let own = if key == "name" { "name" } else { "listen" };
        assert!(ORIGIN_SAMPLE.contains(&format!("\n{own} = {value}\n")), "{key} = {value}");
    }
}

/// The folder `deploy/`.
fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Runs a script of `deploy/` that calls the program, with these variables.
fn run_with_program(script: &Path, variables: &[(&str, &str)]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_evernear")).parent().unwrap().display().to_string();
    let path = format!("{program}:/usr/bin:/bin");
    output(Command::new("bash").arg(script).env_clear().env("PATH", path).envs(variables.iter().copied()))
}

/// Runs `prepare` of the compose file for a network below the home folder, with these variables.
fn prepare(home: &Home, more: &[(&str, &str)]) {
    let at = |name: &str| home.path().join(name).display().to_string();
    for service in ["authority", "nodes/o1", "nodes/o2", "nodes/e1", "nodes/twin"] {
        fs::create_dir_all(at(service)).unwrap();
    }
    let (authority, nodes) = (at("authority"), at("nodes"));
    let usual = [
        ("AUTHORITY", &*authority),
        ("NODES", &*nodes),
        ("ORIGINS", "o1 o2"),
        ("ZONE", "cdn.localhost"),
        ("HTTP", "127.0.0.1:8080"),
        ("PUBLIC", "127.0.0.1"),
        ("PROFILE", "1+1"),
    ];
    let done = run_with_program(&deploy().join("compose/prepare"), &[&usual, more].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Puts the paths of a service's container into its configuration, as its volumes would.
fn mounted(home: &Home, service: &str, role: &str) -> String {
    let folder = format!("nodes/{service}");
    let text = fs::read_to_string(home.path().join(&folder).join(format!("{role}.toml"))).unwrap();
    assert!(!text.contains("\"@") && !text.contains("@\""), "a value is missing: {text}");
    let own = home.path().join(&folder).display().to_string();
    let text = text.replace("/var/lib/evernear", &own).replace("/var/cache/evernear", &format!("{own}/cache"));
    let socket = "postgres://evernear@%2Frun%2Fpostgresql/evernear";
    text.replace(socket, &format!("sqlite://{}/catalog.db", home.path().display()))
}

#[test]
fn compose_gives_each_service_its_keys_and_a_configuration_that_it_takes() {
    let home = Home::new();
    prepare(&home, &[]);
    for origin in ["o1", "o2"] {
        home.write("origin.toml", mounted(&home, origin, "origin"));
        assert_eq!(home.good(&["origin", "check-config", "--config", "origin.toml"])["name"], origin);
    }
    let edge = |https: &str| {
        home.write("edge.toml", mounted(&home, "e1", "edge"));
        let said = home.good(&["edge", "check-config", "--config", "edge.toml"]);
        assert_eq!(said["https"].as_str().unwrap_or_default(), https, "{said}");
    };
    edge("");
    let url = || fs::read_to_string(home.path().join("nodes/twin/owner/twin.toml")).unwrap();
    assert!(url().contains("url = \"http://{label}.cdn.localhost:8080/{name}\"\n"), "{}", url());
    assert!(url().contains("hosts = [\"twin\"]\n"), "the name of its service: {}", url());
    // The owner's key opens, and the configuration reads.
    let list = home.run(&["ls", "--state", "nodes/twin/owner", "--json"]);
    assert_eq!((list.code, list.text().trim()), (0, "[]"), "{}", list.err);

    // Each has its own key, and nobody the authority's.
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(home.path().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let wanted = ["authority.pem", "o1.key", "o1.pem", "origin.toml"].map(str::to_owned);
    assert_eq!(names("nodes/o1"), BTreeSet::from(wanted));

    // Again, and open to everybody: keys stay, and what a start that was cut short left is made good.
    let read = |file: &str| fs::read(home.path().join(file)).unwrap();
    let kept = ["authority/authority.pem", "nodes/o2/o2.pem", "nodes/twin/owner/owner.key"].map(|it| (it, read(it)));
    let cut = read("nodes/o1/o1.pem");
    fs::remove_file(home.path().join("authority/o1.pem")).unwrap();
    let open = [("ZONE", "cdn.example.org"), ("PUBLIC", "192.0.2.1"), ("ACME", "https://acme.example/directory")];
    prepare(&home, &open);
    assert!(kept.iter().all(|(file, bytes)| read(file) == *bytes));
    assert_ne!(read("nodes/o1/o1.pem"), cut);
    edge("0.0.0.0:8443");
    assert!(url().contains("url = \"https://{label}.cdn.example.org/{name}\"\n"), "{}", url());
    let secret = read("nodes/e1/zone.secret");
    prepare(&home, &open);
    assert_eq!(read("nodes/e1/zone.secret"), secret);
}

#[test]
fn compose_names_commands_of_the_program_and_variables_that_its_page_explains() {
    let home = Home::new();
    let lines = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("command: [")?.strip_suffix(']'));
    let mut commands = 0;
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with("postgres")) {
        let words: Vec<&str> = line.split(", ").chain(["--help"]).collect();
        assert_eq!(home.run(&words).code, 0, "{words:?}");
        commands += 1;
    }
    assert_eq!(commands, 3);
    let page = include_str!("../../../docs/operate/containers.md");
    let named = |text: &'static str| text.split("${").skip(1).map(|it| it.split([':', '}']).next().unwrap());
    for variable in named(COMPOSE).chain(named(COMPOSE_PUBLIC)) {
        assert!(page.contains(variable), "{variable}");
    }
}

#[test]
fn a_pod_copies_its_own_key_and_learns_its_place_or_says_what_is_missing() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name).display().to_string();
    let folders = ["/etc/evernear", "/keys", "/run/evernear", "/var/lib/evernear", "/catalog", "/zone"];
    let mut script = fs::read_to_string(deploy().join("helm/evernear/files/prepare")).unwrap();
    for folder in folders {
        fs::create_dir_all(at(&folder[1..])).unwrap();
        // Only where a word begins: `$keys/` stays.
        for before in ["=", " "] {
            script = script.replace(&format!("{before}{folder}"), &format!("{before}{}", at(&folder[1..])));
        }
    }
    fs::write(at("prepare"), script).unwrap();
    for file in ["authority.pem", "net-edge-0.pem", "net-edge-0.key", "net-edge-1.key"] {
        fs::write(at(&format!("keys/{file}")), file).unwrap();
    }
    fs::write(at("zone/zone.secret"), "a secret").unwrap();
    fs::write(at("etc/evernear/edge.toml"), "name = \"@NAME@\"\n@PLACE@\n[tls]\nkey = \"@NAME@.key\"\n").unwrap();
    let place = |zone: &str| {
        fs::write(at(&format!("etc/evernear/place.{zone}.toml")), format!("[place]\nzone = \"{zone}\"\n")).unwrap();
    };
    let start = |name: &str, zone: &str| {
        let variables = [("ROLE", "edge"), ("NAME", name), ("ZONE", zone)];
        let done = run_with_program(Path::new(&at("prepare")), &variables);
        done.status.success().then_some(()).ok_or_else(|| String::from_utf8(done.stderr).unwrap())
    };
    // Where all is one place, no label is needed.
    place("a");
    start("net-edge-0", "").unwrap();
    place("b");
    start("net-edge-0", "b").unwrap();
    let read = |file: &str| fs::read_to_string(at(&format!("run/evernear/{file}"))).unwrap();
    assert_eq!(read("edge.toml"), "name = \"net-edge-0\"\n[place]\nzone = \"b\"\n[tls]\nkey = \"net-edge-0.key\"\n");
    assert_eq!((read("net-edge-0.key").as_str(), read("zone.secret").as_str()), ("net-edge-0.key", "a secret"));
    assert!(!Path::new(&at("run/evernear/net-edge-1.key")).exists());
    let mode = fs::metadata(at("run/evernear/net-edge-0.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert!(start("net-edge-0", "c").unwrap_err().contains("the zone 'c'"));
    let missing = start("net-edge-1", "a").unwrap_err();
    assert!(missing.contains("lacks net-edge-1.pem; evernear cluster issue KEYS net-edge-1 --role edge"), "{missing}");
    assert!(CHART.contains(&format!("\nversion: {0}\nappVersion: {0}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_probe_succeeds_at_200_and_fails_at_all_else() {
    let probe = deploy().join("probe");
    let ask = |answer: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("{}/ready", listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // All of it: what is not read when a connection is closed resets it, and the answer may be lost.
            let mut asked = String::new();
            while !asked.ends_with("\r\n\r\n") {
                let mut piece = [0; 1024];
                let length = stream.read(&mut piece).unwrap();
                assert!(length > 0, "{asked}");
                asked.push_str(std::str::from_utf8(&piece[..length]).unwrap());
            }
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        });
        let done = output(Command::new(&probe).arg(target));
        assert!(server.join().unwrap().starts_with("GET /ready HTTP/1.1\r\n"));
        done.status.success()
    };
    assert!(ask("HTTP/1.1 200 OK\r\n\r\n"));
    for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "SSH-2.0-x\r\n", ""] {
        assert!(!ask(answer), "{answer}");
    }
    assert!(!output(Command::new(&probe).arg("1/ready")).status.success(), "nobody listens there");
}

/// Runs a script of the package in its own root folder, with a service manager that records what it is told.
fn run_script(home: &Home, script: &str, arguments: &[&str]) {
    let root = home.path().join("root").display().to_string();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/debian").join(script)).unwrap();
    let mut text = text.replace("#DEBHELPER#", "");
    for folder in ["/etc/evernear", "/var/cache/evernear", "/var/lib/evernear", "/run/systemd/system"] {
        text = text.replace(folder, &format!("{root}{folder}"));
    }
    // The package's user is not on this machine.
    home.write(script, text.replace("-g evernear", ""));
    let manager = format!("{root}/deb-systemd-invoke");
    fs::write(&manager, format!("#!/bin/sh\necho \"$@\" >> '{root}/told'\n")).unwrap();
    fs::set_permissions(&manager, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{root}:/usr/bin:/bin");
    let done = output(Command::new("sh").arg(home.path().join(script)).args(arguments).env("PATH", path));
    assert!(done.status.success() && done.stderr.is_empty(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn scripts_of_the_package_keep_what_must_be_kept_and_tell_an_edge_of_an_upgrade() {
    let home = Home::new();
    let root = home.path().join("root");
    let at = |path: &str| root.join(path);
    for script in ["postinst", "postrm"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/debian").join(script);
        assert!(output(Command::new("sh").arg("-n").arg(path)).status.success(), "{script}");
    }
    fs::create_dir_all(at("etc")).unwrap();
    let told = || fs::read_to_string(at("told")).unwrap_or_default();

    run_script(&home, "postinst", &["configure"]);
    let mode = fs::metadata(at("etc/evernear")).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, told().as_str()), (0o750, ""), "a first installation starts nothing");
    run_script(&home, "postinst", &["configure", "0.0.9"]);
    assert_eq!(told(), "", "without systemd there is nobody to tell");
    fs::create_dir_all(at("run/systemd/system")).unwrap();
    for other in ["abort-upgrade", "triggered"] {
        run_script(&home, "postinst", &[other, "0.0.9"]);
    }
    assert_eq!(told(), "");
    run_script(&home, "postinst", &["configure", "0.0.9"]);
    assert_eq!(told(), "try-reload-or-restart evernear-edge.service\n");

    for folder in ["var/cache/evernear/disk", "var/lib/evernear/origin", "var/lib/evernear/edge"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("etc/evernear/edge.key"), "a key").unwrap();
    for kept in ["remove", "upgrade"] {
        run_script(&home, "postrm", &[kept]);
        assert!(at("var/cache/evernear/disk").exists() && at("var/lib/evernear/origin").exists(), "{kept}");
    }
    run_script(&home, "postrm", &["purge"]);
    assert!(!at("var/cache/evernear").exists() && !at("var/lib/evernear/edge").exists());
    assert!(at("var/lib/evernear/origin").exists());
    assert!(at("etc/evernear/edge.key").exists());
    // Empty folders are removed too, and a second purge does nothing.
    fs::remove_file(at("etc/evernear/edge.key")).unwrap();
    fs::remove_dir(at("var/lib/evernear/origin")).unwrap();
    for _ in 0..2 {
        run_script(&home, "postrm", &["purge"]);
        assert!(!at("etc/evernear").exists() && !at("var/lib/evernear").exists());
    }
}

/// Returns the files that a line of the package's list names. One `*` stands for anything.
fn files_of(asset: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(asset);
    let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
    let (begin, end) = name.split_once('*').unwrap_or((name, ""));
    let is_meant = |file: &PathBuf| {
        let file = file.file_name().unwrap().to_str().unwrap();
        if name.contains('*') { file.starts_with(begin) && file.ends_with(end) } else { file == name }
    };
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_meant).collect()
}

#[test]
fn what_the_package_and_the_container_take_is_there() {
    let list = MANIFEST.split("assets = [").nth(1).unwrap().split("\n]").next().unwrap();
    let assets: Vec<&str> =
        list.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()).collect();
    assert!(assets.len() >= 8, "{assets:?}");
    // The program itself, and what it writes, are made for the package.
    let is_made = |asset: &&str| *asset == "target/release/evernear" || asset.starts_with("../target/pages/");
    for asset in assets.into_iter().filter(|asset| !is_made(asset)) {
        assert!(!files_of(asset).is_empty(), "{asset} is not there");
    }
    for unit in ["evernear-edge", "evernear-origin"] {
        assert!(MANIFEST.contains(&format!("unit-name = \"{unit}\"")));
    }

    let workspace = include_str!("../../../Cargo.toml");
    assert!(CONTAINER.contains("--profile dist") && workspace.contains("\n[profile.dist]\n"));
    assert!(CONTAINER.contains("--package cli") && MANIFEST.starts_with("[package]\nname = \"cli\"\n"));
    assert!(MANIFEST.contains("[[bin]]\nname = \"evernear\"\n"));
    assert!(CONTAINER.contains(&format!("COPY --from=build /src/target/dist/evernear {PROGRAM}\n")));
    assert!(CONTAINER.contains(&format!("ENTRYPOINT [\"{PROGRAM}\"]\n")));
    let line = |word: &str| CONTAINER.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    for folder in serde_json::from_str::<Vec<String>>(line("VOLUME ")).unwrap() {
        assert!([EDGE_SAMPLE, ORIGIN_SAMPLE].iter().any(|sample| sample.contains(&folder)), "{folder}");
    }
    let exposed: Vec<&str> = line("EXPOSE ").split_whitespace().collect();
    for (sample, port) in
        [(ORIGIN_SAMPLE, 7400), (EDGE_SAMPLE, 53), (EDGE_SAMPLE, 80), (EDGE_SAMPLE, 443), (EDGE_SAMPLE, 9100)]
    {
        assert!(sample.contains(&format!(":{port}\"\n")) && exposed.contains(&&*format!("{port}/tcp")), "{port}");
    }
    for port in ["53/udp", "443/udp"] {
        assert!(exposed.contains(&port), "{port}");
    }
}
