//! The chore `room`: the commands of the README in a bare Debian 12, as on the machine of a newcomer.
//!
//! Place in the flow: by hand, before a release and after a change of `x` or of `setup`; it takes a quarter of an hour
//! and the network. The work is done by `room.sh`.
//! Keeps true: the room has one toolchain of rustup's and no C compiler, and only what is committed.

use std::path::PathBuf;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

const SCRIPT: &str = "xtask/src/room.sh";

/// Makes the room and runs `./x demo --check` there, with `--test` then `./x test`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let (toolchain, commands) = options(arguments)?;
    if command::output(&mut command::program("id", &["-u"]))?.trim() != "0" {
        return Err(Fault::new("making a room needs root: debootstrap, mounts and chroot", "run it as root"));
    }
    setup::install(&[Purpose::Build, Purpose::Room])?;
    let Some(rustup) = command::find(&["rustup"]) else {
        return Err(Fault::new("there is no rustup here to put into the room", "install rustup (https://rustup.rs)"));
    };
    let compiler = PathBuf::from(command::output(&mut command::program("rustc", &["--print", "sysroot"]))?.trim());
    let rooms = command::target_folder().join("room");
    println!("room: of what is committed; {} stays there to be looked at", rooms.join(&toolchain).display());
    // Its mounts and processes go when it ends, however it ends.
    let mut room = command::program("unshare", &["--mount", "--pid", "--fork", "--kill-child", "bash", SCRIPT]);
    room.arg(rooms).arg(toolchain).arg(command::host()?).arg(compiler).arg(rustup).arg(command::root()).arg(commands);
    command::run(&mut room)
}

/// Reads `[--toolchain NAME] [--test]`: the name that the toolchain has in the room, and the commands that run there.
fn options(arguments: &[String]) -> Result<(String, String), Fault> {
    let mut toolchain = "stable".to_owned();
    let mut commands = "time ./x demo --check".to_owned();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--toolchain" => {
                // It becomes a folder's name.
                let is_name = |name: &&String| {
                    name.starts_with(char::is_alphanumeric)
                        && name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c))
                };
                toolchain = rest.next().filter(is_name).cloned().ok_or_else(|| {
                    Fault::new("--toolchain wants the name of a toolchain", "as in `./x room --toolchain 1.95.0`")
                })?;
            }
            "--test" => commands.push_str(" && time ./x test"),
            other => {
                return Err(Fault::new(
                    format!("room does not know `{other}`"),
                    "it knows --toolchain NAME and --test",
                ));
            }
        }
    }
    Ok((toolchain, commands))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_named_in_the_fault() {
        let read = |line: &str| options(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read("").unwrap(), ("stable".to_owned(), "time ./x demo --check".to_owned()));
        let both = ("1.95.0".to_owned(), "time ./x demo --check && time ./x test".to_owned());
        assert_eq!(read("--test --toolchain 1.95.0").unwrap(), both);
        for wrong in ["--toolchain", "--toolchain ..", "--toolchain a/b", "--tests"] {
            assert!(read(wrong).unwrap_err().to_string().contains(wrong.split(' ').next().unwrap()), "{wrong}");
        }
    }
}
