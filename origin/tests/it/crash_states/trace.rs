//! What a process did to files, in the order in which the kernel saw it: recorded by strace, so that nothing the
//! program does can be missing from it, and read back as operations on inodes.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// Every call that changes files or names, or says which file a descriptor is. What [`Reader::call`] does not know, it
/// refuses.
const CALLS: &str = "openat,creat,write,pwrite64,writev,pwritev,pwritev2,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,\
                     mkdirat,fsync,fdatasync,sync_file_range,ftruncate,truncate,fallocate,close,dup,dup2,dup3,link,linkat,\
                     symlink,symlinkat,copy_file_range,sendfile,splice,io_uring_setup";

/// A file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inode(pub(super) usize);

/// The folder that is watched; the first inode.
pub(super) const ROOT: Inode = Inode(0);

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) folder: Inode,
    pub(super) name: String,
}

/// One thing that was done.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Bytes were written.
    Write { inode: Inode, at: u64, bytes: Vec<u8> },
    /// The file was cut, or made longer by zeros.
    Resize { inode: Inode, length: u64 },
    /// A new file or folder got a name.
    Make { entry: Entry, inode: Inode, is_folder: bool },
    /// A name was replaced by another, over whatever had it.
    Rename { from: Entry, to: Entry, inode: Inode },
    /// A name went.
    Unlink { entry: Entry },
    /// A file's bytes, or a folder's names, were made durable.
    Sync { inode: Inode },
    /// The process told the outside something: a line of its notes.
    Said(String),
}

/// Runs `child` under strace. Returns what it did below `root`, and the lines it wrote to `notes`.
pub(super) fn record(child: &Command, root: &Path, notes: &Path) -> Vec<Op> {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let output = Command::new("strace")
        .args(["--follow-forks", "--quiet=all", "-xx", "--string-limit=8388608", "--output"])
        .arg(&trace)
        .args(["-e", &format!("trace={CALLS}"), "-e", "signal=none", "--"])
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .expect("strace runs; `./x setup` installs it");
    assert!(output.status.success(), "the recorded process ends well: {}", String::from_utf8_lossy(&output.stdout));
    let mut reader = Reader::new(root, notes);
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        reader.line(line);
    }
    assert!(reader.unfinished.is_empty(), "every call has ended");
    reader.ops
}

/// The calls that change a disk.
pub(super) const WRITING_CALLS: [&str; 8] =
    ["write", "pwrite64", "fdatasync", "rename", "unlink", "ftruncate", "openat", "mkdir"];

/// Runs `child` so that it is killed as it enters the n-th such call. Returns whether it was.
pub(super) fn kill_at(child: &Command, call: &str, nth: u32) -> bool {
    let output = Command::new("strace")
        .args(["--follow-forks", "--quiet=all", "--output=/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}"), "--"])
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .expect("strace runs; `./x setup` installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("FAILED"), "the child does not fail by itself: {said}");
    !output.status.success()
}

/// An open descriptor.
#[derive(Clone)]
enum Open {
    File { inode: Inode, at: u64, appends: bool },
    Notes,
}

/// Turns lines of strace into operations.
struct Reader {
    root: PathBuf,
    notes: PathBuf,
    ops: Vec<Op>,
    /// Names as the process sees them.
    names: BTreeMap<Entry, Inode>,
    lengths: Vec<u64>,
    open: BTreeMap<u32, Open>,
    /// Starts of calls that other threads' lines cut in two.
    unfinished: BTreeMap<String, String>,
}

impl Reader {
    fn new(root: &Path, notes: &Path) -> Self {
        Self {
            root: root.to_owned(),
            notes: notes.to_owned(),
            ops: Vec::new(),
            names: BTreeMap::new(),
            lengths: vec![0],
            open: BTreeMap::new(),
            unfinished: BTreeMap::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let Some((process, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            self.unfinished.insert(process.to_owned(), start.trim_end().to_owned());
            return;
        }
        let whole = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let start = self.unfinished.remove(process).expect("a resumed call was begun");
                start + resumed.split_once(" resumed>").expect("strace says that it resumes").1
            }
            None => rest.to_owned(),
        };
        let Some((call, result)) = whole.rsplit_once(" = ") else { return };
        let result: i64 = result.split(' ').next().and_then(|number| number.parse().ok()).expect("a call has a result");
        let (name, arguments) = call.trim_end().split_once('(').expect("a call has arguments");
        let arguments: Vec<&str> = arguments.strip_suffix(')').expect("arguments end").split(", ").collect();
        if result >= 0 {
            self.call(name, &arguments, result.unsigned_abs());
        }
    }

    fn call(&mut self, name: &str, arguments: &[&str], result: u64) {
        match name {
            "openat" => self.open(arguments[0], arguments[1], arguments[2], result),
            "close" => {
                self.open.remove(&number(arguments[0]));
            }
            "write" => self.write(number(arguments[0]), None, arguments[1], result),
            "pwrite64" => self.write(number(arguments[0]), Some(number(arguments[3])), arguments[1], result),
            "ftruncate" => {
                if let Some(Open::File { inode, .. }) = self.open.get(&number(arguments[0])).cloned() {
                    self.resize(inode, number(arguments[1]));
                }
            }
            // Room for more bytes makes the file longer by zeros.
            "fallocate" => {
                assert_eq!(arguments[1], "0", "fallocate of another kind is not modelled");
                if let Some(Open::File { inode, .. }) = self.open.get(&number(arguments[0])).cloned() {
                    let end: u64 = number::<u64>(arguments[2]) + number::<u64>(arguments[3]);
                    let length = self.lengths[inode.0].max(end);
                    self.resize(inode, length);
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(Open::File { inode, .. }) = self.open.get(&number(arguments[0])) {
                    self.ops.push(Op::Sync { inode: *inode });
                }
            }
            "mkdir" => {
                if let Some(entry) = self.entry(&text(arguments[0])) {
                    self.make(entry, true);
                }
            }
            "rename" => {
                let (from, to) = (self.entry(&text(arguments[0])), self.entry(&text(arguments[1])));
                let (Some(from), Some(to)) = (from, to) else { return };
                let inode = self.names.remove(&from).expect("what is renamed is there");
                self.names.insert(to.clone(), inode);
                self.ops.push(Op::Rename { from, to, inode });
            }
            "unlink" => {
                if let Some(entry) = self.entry(&text(arguments[0])) {
                    self.names.remove(&entry);
                    self.ops.push(Op::Unlink { entry });
                }
            }
            other => panic!("{other}({arguments:?}) is not modelled"),
        }
    }

    fn open(&mut self, at: &str, path: &str, flags: &str, descriptor: u64) {
        let path = text(path);
        let descriptor = u32::try_from(descriptor).unwrap();
        let has = |flag: &str| flags.split('|').any(|it| it == flag);
        if Path::new(&path) == self.notes {
            self.open.insert(descriptor, Open::Notes);
            return;
        }
        let inode = if Path::new(&path) == self.root {
            ROOT
        } else {
            let Some(entry) = self.entry(&path) else { return };
            assert_eq!(at, "AT_FDCWD", "paths are absolute");
            match self.names.get(&entry).copied() {
                Some(inode) => inode,
                None => self.make(entry, false),
            }
        };
        if has("O_TRUNC") && self.lengths[inode.0] > 0 {
            self.resize(inode, 0);
        }
        self.open.insert(descriptor, Open::File { inode, at: 0, appends: has("O_APPEND") });
    }

    fn write(&mut self, descriptor: u32, at: Option<u64>, bytes: &str, written: u64) {
        match self.open.get_mut(&descriptor) {
            Some(Open::Notes) => {
                let lines = text(bytes);
                self.ops.extend(lines.lines().map(|line| Op::Said(line.to_owned())));
            }
            Some(Open::File { inode, at: cursor, appends }) => {
                let inode = *inode;
                let at = at.unwrap_or_else(|| {
                    let at = if *appends { self.lengths[inode.0] } else { *cursor };
                    *cursor = at + written;
                    at
                });
                let mut bytes = unhex(bytes);
                bytes.truncate(usize::try_from(written).unwrap());
                let length = &mut self.lengths[inode.0];
                *length = (*length).max(at + written);
                self.ops.push(Op::Write { inode, at, bytes });
            }
            None => {}
        }
    }

    fn resize(&mut self, inode: Inode, length: u64) {
        self.lengths[inode.0] = length;
        self.ops.push(Op::Resize { inode, length });
    }

    fn make(&mut self, entry: Entry, is_folder: bool) -> Inode {
        let inode = Inode(self.lengths.len());
        self.lengths.push(0);
        self.names.insert(entry.clone(), inode);
        self.ops.push(Op::Make { entry, inode, is_folder });
        inode
    }

    /// Returns the entry of a path below the root; none for any other path.
    fn entry(&self, path: &str) -> Option<Entry> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        let mut names = below.components().map(|part| match part {
            Component::Normal(name) => name.to_str().expect("names are UTF-8").to_owned(),
            other => panic!("{other:?} in a path"),
        });
        let mut name = names.next()?;
        let mut folder = ROOT;
        for next in names {
            folder = *self.names.get(&Entry { folder, name }).expect("the folders of a path are there");
            name = next;
        }
        Some(Entry { folder, name })
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("{text} is a number"))
}

fn text(quoted: &str) -> String {
    String::from_utf8(unhex(quoted)).expect("paths and notes are UTF-8")
}

/// Reads `"\x68\x69"`.
fn unhex(quoted: &str) -> Vec<u8> {
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).expect("strings are whole and quoted");
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).expect("hex");
    inner.as_bytes().chunks(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])).collect()
}
