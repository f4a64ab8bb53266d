//! Manual pages and completions come from the program's own tree of commands.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::program::Home;

#[test]
fn each_command_has_a_manual_page_and_shells_complete_it() {
    let home = Home::new();
    let done = home.run(&["completions", "--pages", "out"]);
    assert_eq!(done.code, 0, "{}", done.err);
    let page = |name: &str| fs::read_to_string(home.path().join("out").join(name)).unwrap_or_default();
    for name in ["evernear", "evernear-put", "evernear-index-check", "evernear-policy-publish"] {
        assert!(page(&format!("man1/{name}.1")).contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(page("man1/evernear-put.1").contains("Examples:"));
    for name in ["evernear.bash", "_evernear", "evernear.fish"] {
        assert!(page(name).contains("skip\\-bad") || page(name).contains("skip-bad"), "{name}");
    }
    let printed = home.run(&["completions", "bash"]);
    assert_eq!(printed.text(), page("evernear.bash"));
    for wrong in [&["completions"][..], &["completions", "tcsh"], &["completions", "bash", "--pages", "out"]] {
        assert_eq!(home.run(wrong).code, 2, "{wrong:?}");
    }

    // bash itself takes them.
    let bash = Command::new("bash")
        .args([
            "-c",
            "source out/evernear.bash && COMP_WORDS=(evernear compl) COMP_CWORD=1 && \
             _evernear evernear compl evernear && echo \"${COMPREPLY[@]}\"",
        ])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stdout), "completions\n", "{}", String::from_utf8_lossy(&bash.stderr));
}
