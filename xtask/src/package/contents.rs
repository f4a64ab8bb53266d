//! The check of a package's contents: every promised file is there, nothing is outside our folders, only root may
//! write.
//!
//! Place in the flow: `package` calls it for each package that it makes.

use crate::command;
use crate::fault::Fault;

/// The files that docs/operate/install.md promises, without the documents.
const PROMISED: [&str; 15] = [
    "./usr/bin/evernear",
    "./usr/lib/systemd/system/evernear-edge.service",
    "./usr/lib/systemd/system/evernear-origin.service",
    "./usr/lib/systemd/user/evernear-up.service",
    "./usr/lib/sysusers.d/evernear.conf",
    "./usr/share/bash-completion/completions/evernear",
    "./usr/share/fish/vendor_completions.d/evernear.fish",
    "./usr/share/man/man1/evernear.1",
    "./usr/share/man/man1/evernear-put.1",
    "./usr/share/zsh/vendor-completions/_evernear",
    "./usr/share/doc/evernear/copyright",
    "./usr/share/doc/evernear/examples/edge.toml",
    "./usr/share/doc/evernear/examples/origin.toml",
    "./usr/share/doc/evernear/examples/grafana-edge.json",
    "./usr/share/doc/evernear/examples/grafana-origin.json",
];
/// The only folders that may contain files. The installation makes `/etc/evernear`.
const HOMES: [&str; 9] = [
    "./usr/bin/",
    "./usr/lib/systemd/system/",
    "./usr/lib/systemd/user/",
    "./usr/lib/sysusers.d/",
    "./usr/share/bash-completion/completions/",
    "./usr/share/doc/evernear/",
    "./usr/share/fish/vendor_completions.d/",
    "./usr/share/man/man1/",
    "./usr/share/zsh/vendor-completions/",
];

/// Refuses the contents of a package, as `dpkg-deb --contents` lists them, that are not as promised.
pub(super) fn check(listing: &str) -> Result<(), Fault> {
    let wrong = wrong(listing, &documents());
    if wrong.is_empty() {
        println!("package: {} entries as promised", listing.lines().count());
        return Ok(());
    }
    Err(Fault::new(
        format!("the package is not as promised:\n  {}", wrong.join("\n  ")),
        "mend the list `assets` in cli/Cargo.toml, or the promise in xtask/src/package/contents.rs",
    ))
}

/// Returns where the package must have the documents of this clone.
fn documents() -> Vec<String> {
    let of = |folder: &str, home: &str| {
        let entries = std::fs::read_dir(command::root().join(folder)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let pages = names.filter(|name| name.ends_with(".md"));
        pages.map(|name| format!("./usr/share/doc/evernear/{home}{name}")).collect::<Vec<_>>()
    };
    [of("docs", ""), of("docs/operate", "operate/")].concat()
}

/// Returns one line for each file that is missing, in a wrong folder, or writable by others than root.
fn wrong(listing: &str, documents: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut there = Vec::new();
    for line in listing.lines() {
        // For example `-rwxr-xr-x 0/0 96352000 2026-11-28 18:50 ./usr/bin/evernear`.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, _, _, path] = words[..] else {
            wrong.push(format!("not read: {line}"));
            continue;
        };
        let wanted = match path {
            _ if path.ends_with('/') => "drwxr-xr-x",
            "./usr/bin/evernear" => "-rwxr-xr-x",
            _ => "-rw-r--r--",
        };
        // cargo-deb gives root by number alone.
        if mode != wanted || !["root/root", "0/0"].contains(&owner) {
            wrong.push(format!("{path} is {mode} {owner}, not {wanted} root/root"));
        }
        if !path.ends_with('/') && !HOMES.iter().any(|home| path.starts_with(home)) {
            wrong.push(format!("{path} lies where nothing of ours belongs"));
        }
        // cargo-deb compresses the Debian changelog and the manual pages.
        there.push(path.strip_suffix(".gz").unwrap_or(path));
    }
    let promised = PROMISED.into_iter().chain(documents.iter().map(String::as_str));
    wrong.extend(promised.filter(|path| !there.contains(path)).map(|path| format!("{path} is missing")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mode: &str, owner: &str, path: &str) -> String {
        format!("{mode} {owner} 4 2026-11-28 18:50 {path}\n")
    }

    fn whole() -> String {
        let mode = |path: &&str| if path.ends_with("bin/evernear") { "-rwxr-xr-x" } else { "-rw-r--r--" };
        let files = PROMISED.iter().map(|path| line(mode(path), "0/0", path));
        files.chain([line("drwxr-xr-x", "root/root", "./usr/bin/")]).collect()
    }

    #[test]
    fn what_is_missing_out_of_place_or_anybodys_is_named() {
        assert_eq!(wrong(&whole(), &[]), [""; 0]);
        let said = |more: &str, documents: &[String]| wrong(&(whole() + more), documents);
        assert_eq!(
            said("", &["./usr/share/doc/evernear/a.md".to_owned()]),
            ["./usr/share/doc/evernear/a.md is missing"]
        );
        let packed = line("-rw-r--r--", "root/root", "./usr/share/doc/evernear/a.md.gz");
        assert_eq!(said(&packed, &["./usr/share/doc/evernear/a.md".to_owned()]), [""; 0]);
        for (mode, owner, path, fault) in [
            ("-rw-rw-r--", "root/root", "./usr/lib/sysusers.d/b.conf", "is -rw-rw-r-- root/root"),
            ("-rw-r--r--", "1000/root", "./usr/lib/sysusers.d/b.conf", "is -rw-r--r-- 1000/root"),
            ("-rwsr-xr-x", "root/root", "./usr/bin/evernear", "is -rwsr-xr-x root/root"),
            ("drwxrwxrwx", "root/root", "./usr/", "is drwxrwxrwx root/root"),
            ("-rw-r--r--", "root/root", "./etc/evernear/edge.toml", "lies where nothing of ours belongs"),
            ("-rw-r--r--", "root/root", "./usr/bin/a -> b", "not read"),
        ] {
            let said = said(&line(mode, owner, path), &[]);
            assert!(said.len() == 1 && said[0].contains(fault), "{path}: {said:?}");
        }
        assert!(wrong("", &[]).len() == PROMISED.len());
    }

    #[test]
    fn the_clone_has_documents() {
        assert!(documents().iter().any(|path| path.ends_with("evernear/operate/install.md")));
        assert!(documents().iter().any(|path| path.ends_with("evernear/format.md")));
    }
}
