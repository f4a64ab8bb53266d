//! The compiler child of `guard.rs` as a program of its own. In an edge it is `evernear policy-compile`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox::guard::child_main()
}
