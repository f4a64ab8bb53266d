//! The compiler child of `guard.rs`, a program by itself: for an edge it is `evernear policy-compile`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox::guard::child_main()
}
