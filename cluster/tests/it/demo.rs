//! The demo as a user sees it: the real program with file names of every kind, ended by signals, and its printed
//! commands pasted into a shell.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use tempfile::{NamedTempFile, TempDir};
use testing::noise;
use twin::Target;

use crate::made::Made;

/// No step of the demo takes longer on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// A graceful shutdown waits up to 10 s for answers in progress (edge/src/edge/run.rs). A program that ends within this
/// time did not wait for them.
const AT_ONCE: Duration = Duration::from_secs(7);
const READY: &str = "The network stays up";

/// File names that have special characters of URLs, HTML attributes or shells.
const NAMES: [&str; 10] = [
    "my film.txt",
    "50%.txt",
    "a#b?.txt",
    "ünï 🎬.mp4",
    "\"><script>.txt",
    "&amp;",
    ".profile",
    "-r",
    "%41+;=,'()[]{}\\|^`~$!*:@",
    "two  spaces ",
];

/// The program. It has its own folder for temporary files, so that the test sees what it leaves behind.
struct Program {
    child: Child,
    lines: Receiver<String>,
    temporary: TempDir,
    errors: NamedTempFile,
}

impl Program {
    fn start(mut command: Command, folder: &Path) -> Self {
        let (temporary, errors) = (tempfile::tempdir().unwrap(), NamedTempFile::new().unwrap());
        command.current_dir(folder).env("TMPDIR", temporary.path()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(errors.reopen().unwrap()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = sync_channel(1024);
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { child, lines, temporary, errors }
    }

    /// Starts the demo on free ports.
    fn demo(folder: &Path, file: &str) -> Self {
        Self::start(command(&["demo", "--http-port", "0", "--dns-port", "0", file]), folder)
    }

    /// Returns all lines up to the first that contains these words.
    fn until(&mut self, words: &str) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        while !said.last().is_some_and(|line| line.contains(words)) {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => said.push(line),
                Err(_) => panic!("it did not say {words:?} after {said:#?}"),
            }
        }
        said
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end. Returns the exit code, and what it printed since the last call.
    fn end(&mut self, deadline: Duration) -> (Option<i32>, String) {
        let status = wait_for(deadline, "its end", || self.child.try_wait().unwrap());
        let said: String = self.lines.iter().map(|line| line + "\n").collect();
        (status.code(), said + &self.errors())
    }

    /// Returns all that it wrote to standard error.
    fn errors(&self) -> String {
        fs::read_to_string(self.errors.path()).unwrap()
    }

    /// Returns what is in its folder of temporary files.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // If it cannot be killed, it has already ended.
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(arguments);
    command
}

/// Polls until there is a result.
fn wait_for<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < deadline, "{what} did not come within {deadline:?}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_name_are_read_back_by_curl() {
    let made = Made::new().await;
    let folder = made.folder.path().join("names");
    fs::create_dir(&folder).unwrap();
    NAMES.iter().for_each(|name| fs::write(folder.join(name), format!("this is {name}")).unwrap());
    let tree = made.put(&folder).await;
    for name in NAMES {
        let file = made.put(&folder.join(name)).await;
        assert_eq!(made.network.link(&file).url, made.network.url(&file.label, name));
        for stored in [&file, &tree] {
            let (answer, body) = made.get(0, stored, name, &[]).await;
            assert_eq!((answer.status, String::from_utf8_lossy(&body).into_owned()), (200, format!("this is {name}")));
        }
    }
    made.network.stop().await.unwrap();
}

/// One run of the whole demo, with one file for each name.
#[test]
fn the_demo_keeps_its_word_for_every_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        fs::write(folder.path().join(name), name).unwrap();
    }
    // This is no real film, but it is long enough to have shards and ranges.
    fs::write(folder.path().join(NAMES[3]), noise(200_000)).unwrap();
    fs::write(folder.path().join("empty.mp4"), "").unwrap();
    fs::create_dir(folder.path().join("site")).unwrap();
    fs::write(folder.path().join("site/a.txt"), "a").unwrap();
    symlink("/etc", folder.path().join("site/link")).unwrap();
    let arguments = [&["demo", "--check", "--"], &NAMES[..], &["empty.mp4", "site"]].concat();
    let mut demo = Program::start(command(&arguments), folder.path());
    let (code, said) = demo.end(DEADLINE);
    assert!(code == Some(0) && said.contains("Everything is as promised."), "{said}");

    let urls: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  open      ")).collect();
    let paths: Vec<Vec<String>> = urls.iter().map(|url| url.parse::<Target>().unwrap().path).collect();
    let names = NAMES.iter().chain(&["empty.mp4"]).map(|name| vec![(*name).to_owned()]).chain([vec![]]);
    assert_eq!(paths, names.collect::<Vec<_>>());
    assert!(urls.iter().all(|url| url.bytes().all(|byte| byte.is_ascii_graphic())), "{urls:?}");
    for (at, html) in [
        (3, "<video src=\"{}\" controls playsinline></video>"),
        (4, "<a href=\"{}\">&quot;&gt;&lt;script&gt;.txt</a>"),
        (5, "<a href=\"{}\">&amp;amp;</a>"),
    ] {
        let line = format!("  embed     {}", html.replace("{}", urls[at]));
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    assert!(said.contains("\n  left out  site/link\n"), "{said}");
}

#[test]
fn what_cannot_be_stored_is_refused_before_the_network_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("empty/inner")).unwrap();
    fs::create_dir(path("closed")).unwrap();
    fs::create_dir_all(path("lines/two\nlines")).unwrap();
    fs::write(path("lines/a.txt"), "a").unwrap();
    for name in ["secret.txt", "closed/secret.txt"] {
        fs::write(path(name), "s").unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::write(path("two\nlines.txt"), "t").unwrap();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    // Root can read every file, unless it lacks CAP_DAC_OVERRIDE.
    let is_root = File::open(path("secret.txt")).is_ok();
    for (name, says) in [
        ("none.txt", "none.txt cannot be read: No such file or directory"),
        ("empty", "the folder empty holds no file"),
        ("secret.txt", "secret.txt cannot be read: Permission denied"),
        ("closed", "closed/secret.txt cannot be read: Permission denied"),
        ("/dev/zero", "/dev/zero is neither file nor folder"),
        ("pipe", "pipe is neither file nor folder"),
        ("two\nlines.txt", "the name of \"two\\nlines.txt\" is not UTF-8 or has control characters; rename it"),
        ("lines", "lines: \"two\\nlines\" cannot be a name in a directory"),
    ] {
        let demo = command(&["demo", "--check", name]);
        let mut command = if is_root { Command::new("setpriv") } else { Command::new("env") };
        if is_root {
            command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
        }
        command.arg(demo.get_program()).args(demo.get_args()).current_dir(folder.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        assert!(output.status.code() == Some(1) && out.is_empty() && err.contains(says), "{name}: {out}{err}");
    }
}

/// Slow, because the demo starts three times.
#[test]
fn a_signal_ends_the_demo_and_its_folder_goes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small.txt"), "small").unwrap();
    fs::write(folder.path().join("large.bin"), noise(100_000_000)).unwrap();
    let ends = |mut demo: Program, signal: &str, code: i32| {
        demo.signal(signal);
        let (ended, said) = demo.end(DEADLINE);
        assert_eq!((ended, demo.left()), (Some(code), vec![]), "{signal}: {said}");
        assert!(!said.contains(READY), "{said}");
        said
    };

    let demo = Program::demo(folder.path(), "small.txt");
    wait_for(DEADLINE, "its folder", || demo.left().pop());
    let said = ends(demo, "INT", 130);
    assert_eq!(said, "error: ended by SIGINT before it was done\n", "it was still starting");

    let mut demo = Program::demo(folder.path(), "large.bin");
    demo.until("A whole network in one process");
    let origins = demo.left()[0].join("origins");
    let is_upload = |entry: &walkdir::DirEntry| {
        let is_in_tmp = entry.path().parent().is_some_and(|folder| folder.ends_with("tmp"));
        entry.file_type().is_file() && is_in_tmp && entry.file_name() != "probe"
    };
    wait_for(DEADLINE, "an upload", || walkdir::WalkDir::new(&origins).into_iter().flatten().find(is_upload));
    let said = ends(demo, "HUP", 129);
    assert!(said.contains("ended by SIGHUP") && !said.contains("large.bin"), "it was still storing: {said}");

    let mut demo = Program::demo(folder.path(), "small.txt");
    demo.until(READY);
    ends(demo, "TERM", 0);
}

#[test]
fn a_second_signal_ends_the_demo_at_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("film.mp4"), noise(40_000_000)).unwrap();
    let mut command = command(&["demo", "--http-port", "0", "--dns-port", "0", "film.mp4"]);
    command.env("RUST_LOG", "edge=info");
    let mut demo = Program::start(command, folder.path());
    let said = demo.until(READY);
    // This viewer stops reading, so the edge waits for it during shutdown.
    let url = said.iter().find_map(|line| line.strip_prefix("  open      http://")).unwrap();
    let (host, path) = url.split_once('/').unwrap();
    let edge = format!("127.0.0.1:{}", host.split_once(':').unwrap().1);
    let mut viewer = TcpStream::connect(&edge).unwrap();
    write!(viewer, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    viewer.read_exact(&mut [0; 1000]).unwrap();

    let told = Instant::now();
    demo.signal("TERM");
    wait_for(AT_ONCE, "the first signal", || demo.errors().contains("edge ends").then_some(()));
    // A terminal that closes sends SIGHUP twice; the second must not cut the shutdown short.
    demo.signal("HUP");
    assert_eq!(demo.child.try_wait().unwrap(), None, "the first one waits for the viewer");
    demo.signal("TERM");
    assert_eq!(demo.end(AT_ONCE.saturating_sub(told.elapsed())).0, Some(143));
}

#[test]
fn the_printed_lines_store_a_file_when_they_are_pasted() {
    let beside = Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name("evernear");
    assert!(beside.is_file(), "evernear is not built; `cargo build -p cli` builds it");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small.txt"), "small").unwrap();
    let mut demo = Program::demo(folder.path(), "small.txt");
    demo.until(READY);
    let said = demo.until("curl ");
    let lines = said[said.len() - 3..].join("\n");
    let paste = |lines: &str| {
        let mut shell = Command::new("sh");
        shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder.path());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        (output.status.code(), out, err)
    };

    let (code, out, err) = paste(&lines);
    let read = out.split_once("\nstored ").and_then(|(_, rest)| rest.split_once('\n')).map(|(_, read)| read);
    assert_eq!((code, read), (Some(0), Some("Hello from a file of my own.\n")), "{lines}\n{out}\n{err}");

    // Stores a user's own file under its name.
    let own = folder.path().join(NAMES[0]);
    fs::write(&own, "mine\n").unwrap();
    let (code, out, err) = paste(&lines.replace("\"$D/hello.txt\"", &format!("'{}'", own.display())));
    assert!(code == Some(0) && out.ends_with("\nmine\n") && out.contains("/my%20film.txt\n"), "{out}\n{err}");

    // The owner is the one whose objects the demo stored.
    let (env, list) = (lines.lines().next().unwrap(), beside.display());
    let (code, out, err) = paste(&format!("{env}\n{list} ls"));
    assert!(
        code == Some(0) && ["small.txt", "hello.txt", NAMES[0]].iter().all(|name| out.contains(name)),
        "{out}\n{err}"
    );
}

#[test]
fn a_signal_ends_the_torture_and_all_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    let mut torture = Program::start(command(&["torture", "--minutes", "5"]), folder.path());
    torture.until("seed 1");
    let left = torture.left();
    let nodes = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(left[0].to_str().unwrap())).count()
    };
    assert!(nodes() > 0, "its origins run");
    torture.signal("TERM");
    let (code, said) = torture.end(DEADLINE);
    assert_eq!((code, torture.left(), nodes()), (Some(143), vec![], 0), "{said}");
}
