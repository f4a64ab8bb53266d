//! The commands of the documents, word for word: each `sh` block runs, in the order of [`PAGES`], in one shell, and
//! each `toml` block becomes the file that its first line names. So a reader who goes from page to page gets what the
//! pages say.
//!
//! The shell has a network, processes and a home folder of its own. Ports, paths and names of the documents are
//! therefore those of the test, and nothing is left behind.

mod blocks;

use std::{
    fs,
    path::{Path, PathBuf},
};

use blocks::{Block, Run, blocks};
use walkdir::WalkDir;

/// The pages whose blocks run, in this order. Each continues in the cluster that the pages before it left.
const PAGES: [&str; 18] = [
    "docs/up.md",
    "docs/quickstart.md",
    "README.md",
    "docs/owner.md",
    "docs/api.md",
    "docs/operate/README.md",
    "docs/operate/install.md",
    "docs/operate/containers.md",
    "docs/operate/configure.md",
    "docs/operate/tls.md",
    "docs/operate/catalog.md",
    "docs/operate/backup.md",
    "docs/operate/upgrade.md",
    "docs/operate/monitor.md",
    "docs/operate/runbooks.md",
    "docs/operate/sizing.md",
    "docs/policy.md",
    "docs/durability.md",
];

/// Pages for authors of other implementations, or about the reasons. Their blocks show bytes and ideas and do not run.
const APART: [&str; 2] = ["docs/format.md", "docs/decisions"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(page: &str) -> Vec<Block> {
    blocks(page, &fs::read_to_string(root().join(page)).unwrap()).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Checks that every page either runs or is listed in `APART`, so that no documented command is left untested.
#[test]
fn every_page_is_run_and_what_cannot_run_says_why() {
    let here = |path: PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let found = WalkDir::new(root().join("docs")).into_iter().map(|entry| here(entry.unwrap().into_path()));
    for page in found.filter(|page| page.ends_with(".md") && !APART.iter().any(|apart| page.starts_with(apart))) {
        let has_blocks = !read(&page).is_empty();
        assert!(!has_blocks || PAGES.contains(&page.as_str()), "{page} has blocks and is not in PAGES");
    }
    let all: Vec<Block> = PAGES.into_iter().flat_map(read).collect();
    let manual: Vec<String> = all
        .iter()
        .filter_map(|block| match &block.run {
            Run::Manual { reason } => Some(format!("{}: {reason}", block.at)),
            _ => None,
        })
        .collect();
    println!("{} blocks run, {} do not:\n{}", all.len() - manual.len(), manual.len(), manual.join("\n"));
    assert!(all.len() > 2 * manual.len(), "most blocks run");
}

mod needs_root {
    use std::{
        collections::HashMap,
        os::unix::fs::symlink,
        process::{Command, Stdio},
    };

    use cluster::processes;
    use tempfile::TempDir;

    use super::*;

    /// Begins the line that names the block that runs next.
    const MARK: &str = "@@ block ";
    /// Seconds after which the script is killed, because some condition that a page waits for never came.
    const DEADLINE: &str = "300";
    /// Ends files that the script writes.
    const END: &str = "END_OF_A_BLOCK";

    /// Takes over 10 s, because the pages wait for real nodes: starts, restarts, a drain, a restore.
    #[test]
    #[ignore = "needs root"]
    fn the_commands_of_the_documents_do_what_they_say() {
        let all: Vec<Block> = PAGES.into_iter().flat_map(read).collect();
        let folder = clone();
        let script = folder.path().join("script");
        fs::write(&script, script_of(&all)).unwrap();
        // In its own PID namespace a page's `pkill` reaches only the processes of this run, and all of them end with
        // the shell.
        let space = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
        let prepare = "ip link set lo up && mount -t tmpfs tmpfs \"$HOME\" && exec timeout \"$1\" bash \"$0\"";
        let output = Command::new("unshare")
            .args(space)
            .args(["bash", "-c", prepare])
            .arg(&script)
            .arg(DEADLINE)
            .current_dir(folder.path().join("clone"))
            .env_clear()
            .env("HOME", folder.path().join("home"))
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()
            .expect("util-linux is installed: `./x setup --test`");
        let said = String::from_utf8_lossy(&output.stdout);
        let printed = by_block(&said);
        let last = said.rsplit(MARK).next().and_then(|part| part.lines().next()).unwrap_or_default();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} in {last}: {errors}\n{said}", output.status);
        for block in &all {
            let printed = printed.get(block.at.as_str()).copied().unwrap_or_default();
            for line in block.prints.lines() {
                assert!(printed.contains(line), "{} does not print {line:?} but\n{printed}", block.at);
            }
        }
    }

    /// Makes a folder that looks like a clone after `./x demo`, beside an empty home folder.
    fn clone() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let clone = folder.path().join("clone");
        fs::create_dir_all(clone.join("target")).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        for entry in fs::read_dir(root()).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "target") {
            symlink(entry.path(), clone.join(entry.file_name())).unwrap();
        }
        let programs = processes::program().unwrap();
        symlink(programs.parent().unwrap(), clone.join("target/debug")).unwrap();
        folder
    }

    /// Returns one script of all blocks that run. The first command that fails ends it.
    fn script_of(blocks: &[Block]) -> String {
        let mut script = "exec 2>&1\nset -e\n".to_owned();
        for Block { at, text, run, .. } in blocks {
            let (to, file) = match run {
                Run::Manual { .. } => continue,
                Run::Shell => {
                    script += &format!("echo '{MARK}{at}'\n{text}");
                    continue;
                }
                Run::NewFile { file } => (">", file),
                Run::EndOfFile { file } => (">>", file),
            };
            script += &format!("echo '{MARK}{at}'\ncat {to} {file} <<'{END}'\n{text}{END}\n");
        }
        script
    }

    /// Splits the output of the script by the block that printed it.
    fn by_block(said: &str) -> HashMap<&str, &str> {
        said.split(MARK).filter_map(|part| part.split_once('\n')).collect()
    }
}
