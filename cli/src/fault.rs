//! How a command fails: the exit code, what happened, why, and what to try. This is the only table of exit codes.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Error;
use api::StoreError;
use client::{IdentityError, PlacementError, ReadError, Unwritable, UploadError};
use format::OpenError as ObjectError;
use origin::catalog::OpenError;
use sandbox::{AdmitError, guard::GuardError};
use serde::Serialize;
use twin::{
    ClockError, ConfigError, EncodingError, GetError, IndexError, LeaseChangeError, NameChangeError, NetworkError,
    OperatorError, OwnerError, PolicyNameError, PolicySourceError, PublishError, PurgeOrderError, PutError,
    RecoverError, RetentionError, TargetError, TreeError, UnfinishedError,
};
use up::JoinError;

use crate::{
    command_line::{self, UsageFault},
    commands::{Options, node::DrainError},
    held_room::HeldRoom,
    output,
};

/// What `--help` says.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the message says why
  2  the command line is wrong
  3  not found, erased, or no such name in the directory
  4  the cluster failed: too few nodes reached or intact; trying again may help
  5  the owner key is absent, or the passphrase or key file does not open it
  128 and the number of the signal, 130 for Ctrl-C: `get` was interrupted

With --json the answer is one JSON document on standard output, errors too.";

/// The next step where nodes refuse.
const MEND: &str = "mend what the node says; a second try alone will not help";

/// A command line whose options contradict each other, which its parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A signal ended the command. Shells tell that by an exit code of 128 and its number.
#[derive(Debug, thiserror::Error)]
#[error("it was interrupted (signal {signal})")]
pub(crate) struct Interrupted {
    pub(crate) signal: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Failed,
    Usage,
    NotFound,
    Cluster,
    Owner,
    Interrupted(i32),
}

impl Class {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Cluster => 4,
            Self::Owner => 5,
            Self::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// What failed was told, and the command ends with this exit code.
#[derive(Debug, thiserror::Error)]
#[error("some of it failed")]
pub(crate) struct Told {
    pub(crate) code: u8,
}

/// What went wrong, for people or programs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    error: String,
    causes: Vec<String>,
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    pub(crate) code: u8,
}

/// Says what went wrong and returns the exit code.
pub(crate) fn report(error: &Error, options: &Options) -> ExitCode {
    if let Some(Told { code }) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    let report = Report::of(error);
    // A failure to write this is ignored, as it could not be reported either.
    let _ = if options.json {
        output::print_json(&report).map_err(io::Error::other)
    } else {
        io::stderr().lock().write_all(report.text().as_bytes())
    };
    ExitCode::from(report.code)
}

/// Says what is wrong with a command line, or the help or version that it asked for, and returns the exit code.
pub(crate) fn report_usage(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let fault = command_line::usage_fault(error).filter(|_| command_line::wants_json(words));
    let Some(UsageFault { error: what, advice }) = fault else {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { Class::Usage.code() } else { 0 });
    };
    let report = Report { error: what, causes: vec![], advice: Some(advice), code: Class::Usage.code() };
    let _ = output::print_json(&report);
    ExitCode::from(report.code)
}

/// Returns the causes of an error. Some libraries repeat the cause's text in the error: such a text is printed once.
fn causes(error: &Error) -> Vec<String> {
    let mut before = error.to_string();
    let mut causes = Vec::new();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !before.ends_with(&cause) {
            causes.push(cause.clone());
            before = cause;
        }
    }
    causes
}

impl Report {
    pub(crate) fn of(error: &Error) -> Self {
        let (class, advice) = judge(error);
        let advice = advice.map(str::to_owned);
        Self { error: error.to_string(), causes: causes(error), advice, code: class.code() }
    }

    /// Writes to standard error what went wrong with one of many.
    pub(crate) fn tell(&self, what: &str) {
        // A failure to write this is ignored, as it could not be reported either.
        let _ = io::stderr().lock().write_all(format!("{}\n{}", output::escape(what), self.text()).as_bytes());
    }

    fn text(&self) -> String {
        // A further line of a text, or of a name in it, does not begin as one of these does.
        let line = |is: &str, text: &str| {
            let lines: Vec<_> = text.split('\n').map(output::escape).collect();
            format!("{is}: {}\n", lines.join("\n  "))
        };
        let causes: String = self.causes.iter().map(|cause| line("cause", cause)).collect();
        let advice = self.advice.as_ref().map(|advice| line("try", advice)).unwrap_or_default();
        line("error", &self.error) + &causes + &advice
    }
}

/// Finds the first error of the chain that says whose fault it is.
fn judge(error: &Error) -> (Class, Option<&'static str>) {
    error.chain().find_map(judge_one).unwrap_or((Class::Failed, None))
}

/// Returns what lets an upload find enough origins: where the owner said where, that is what binds.
fn room_for(refused: &PlacementError) -> &'static str {
    match refused {
        PlacementError::TooFew { wanted, refused, .. } if wanted.is_empty() && refused.is_empty() => {
            "a profile with fewer nodes: `evernear profiles` has their numbers, --profile 1+1 needs 2, 1+0 one, whose disk must not be lost; `evernear node ls` shows the nodes"
        }
        PlacementError::TooFew { .. } => {
            "more --places, or a profile with fewer nodes; `evernear node ls` shows where nodes are"
        }
        _ => "a larger number with --at-most, or more --places; `evernear node ls` shows where nodes are",
    }
}

fn judge_one(cause: &(dyn std::error::Error + 'static)) -> Option<(Class, Option<&'static str>)> {
    if cause.is::<Usage>() {
        return Some((Class::Usage, None));
    }
    if let Some(Interrupted { signal }) = cause.downcast_ref() {
        return Some((Class::Interrupted(*signal), None));
    }
    if cause.is::<HeldRoom>() {
        let advice = "`evernear ls --unfinished` shows them: the same `put` goes on with one, and `evernear rm --unfinished` ends them all \
                      and frees their room";
        return Some((Class::Cluster, Some(advice)));
    }
    if let Some(JoinError::Unreachable { .. } | JoinError::Broken { .. }) = cause.downcast_ref() {
        return Some((Class::Cluster, None));
    }
    if cause.is::<ClockError>() {
        let advice = "set the clock of this machine (`timedatectl` shows it), then the same command again; if it is right, the nodes' \
                      clocks are wrong: tell their operator";
        return Some((Class::Failed, Some(advice)));
    }
    if let Some(error) = cause.downcast_ref::<RetentionError>() {
        let advice = match error {
            RetentionError::Clock(_) => return None,
            RetentionError::Ended { .. } => "a later --expires; to end an object now: `evernear rm LABEL`",
            RetentionError::KeptBefore { .. } => "a later --keep-until, or none",
            RetentionError::KeptLonger { .. } => "an --expires that is not before --keep-until",
        };
        return Some((Class::Usage, Some(advice)));
    }
    if let Some(error) = cause.downcast_ref::<PolicyNameError>() {
        return Some(match error {
            PolicyNameError::Unknown { .. } => {
                (Class::Failed, Some("check how it is spelt, or `evernear policy publish NAME FILE` first"))
            }
            PolicyNameError::Unavailable { .. } => (Class::Cluster, Some("again in a moment: nodes may be restarting")),
        });
    }
    let read = |error: &ReadError| match error {
        ReadError::NotFound { .. } => {
            Some((Class::NotFound, Some("check the link; a new object may take some seconds to be known")))
        }
        ReadError::Open(ObjectError::Erased) => Some((Class::NotFound, None)),
        ReadError::Unavailable { .. } | ReadError::Old { .. } | ReadError::Lost { .. } | ReadError::TooSlow { .. } => {
            Some((Class::Cluster, Some("again in a moment: nodes may be restarting")))
        }
        ReadError::Open(_) | ReadError::Decode(_) | ReadError::Ending { .. } => None,
    };
    if let Some(error) = cause.downcast_ref::<ReadError>() {
        return read(error);
    }
    if let Some(error) = cause.downcast_ref::<GetError>() {
        return match error {
            GetError::NoEntry { .. } => Some((Class::NotFound, Some("`evernear stat` lists the names of a directory"))),
            GetError::NotDirectory { .. } => Some((Class::NotFound, None)),
            GetError::NameEnded { .. } => Some((Class::NotFound, Some("its owner runs `evernear name renew`"))),
            GetError::Folder { .. } => Some((Class::Failed, Some("name the file in it: -o FOLDER/FILE"))),
            GetError::Exists { .. } => Some((Class::Failed, Some("a new folder, in it or elsewhere: -o FOLDER/NAME"))),
            GetError::Directory => Some((Class::Failed, Some("`evernear get LABEL PATH`, or -o FOLDER for all of it"))),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<NameChangeError>() {
        return match error {
            NameChangeError::Exists { .. } => Some((Class::Failed, Some("`evernear name set NAME LABEL` moves it"))),
            NameChangeError::Unknown { .. } => {
                Some((Class::NotFound, Some("check how it is spelt, or `evernear name new NAME LABEL`")))
            }
            NameChangeError::Ended { .. } => Some((Class::Failed, Some("another name"))),
            NameChangeError::Ending { .. } => {
                Some((Class::Failed, Some("`evernear rm --unfinished` brings it to its end; then another name")))
            }
            NameChangeError::TargetEnding => Some((Class::Failed, Some("the label of something else"))),
            NameChangeError::Name(_) | NameChangeError::Seconds { .. } | NameChangeError::Past { .. } => {
                Some((Class::Usage, None))
            }
            NameChangeError::Sooner { .. } => Some((
                Class::Usage,
                Some(
                    "a later --fresh-until, or none; `evernear name set NAME LABEL --fresh-until TIME` sets an earlier end",
                ),
            )),
            NameChangeError::Chain => Some((Class::Usage, Some("the object's own label: `evernear name show NAME`"))),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<LeaseChangeError>() {
        return match error {
            LeaseChangeError::Unknown | LeaseChangeError::Erased => Some((Class::NotFound, None)),
            LeaseChangeError::TooFew { source: Some(refused), .. } if !refused.is_passing() => {
                Some((Class::Cluster, Some(MEND)))
            }
            LeaseChangeError::Ending => Some((Class::Failed, Some("`evernear rm LABEL` brings it to its end"))),
            LeaseChangeError::Overtaken { .. } => {
                Some((Class::Cluster, Some("again when the other machine has done its work")))
            }
            LeaseChangeError::Unsure { .. } => Some((
                Class::Cluster,
                Some("again when these nodes are back (`evernear node ls`); the index keeps the object until then"),
            )),
            LeaseChangeError::TooFew { .. } => {
                Some((Class::Cluster, Some("again: sending a lease twice does no harm")))
            }
            LeaseChangeError::Sooner { .. } => Some((Class::Usage, Some("a later --expires, or --yes"))),
            LeaseChangeError::Busy => Some((Class::Failed, Some("again when that `put` has ended, or end it first"))),
            LeaseChangeError::Kept { .. } => Some((Class::Failed, Some("again after that time"))),
            LeaseChangeError::Shortened { .. } => Some((
                Class::Failed,
                Some("--keep-until with that time or a later one, or none: it stays as it is then"),
            )),
            LeaseChangeError::OtherData { .. }
            | LeaseChangeError::MoreParity { .. }
            | LeaseChangeError::NoParity { .. } => Some((
                Class::Failed,
                Some("`evernear get LABEL -o FILE`, then `evernear put FILE --profile ..`: a new name"),
            )),
            LeaseChangeError::Caps { .. } => Some((Class::Usage, None)),
            LeaseChangeError::Name => Some((Class::Usage, Some("`evernear name renew NAME`"))),
            LeaseChangeError::Length => Some((Class::Failed, Some("--profile data+parity, for example 4+1"))),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<UploadError>() {
        return match error {
            UploadError::Placement(error) => Some((Class::Cluster, Some(room_for(error)))),
            UploadError::Inconsistent(_) => None,
            UploadError::Lost { failed, .. } if !failed.is_empty() && failed.iter().all(|it| !it.is_passing()) => {
                Some((Class::Cluster, Some(MEND)))
            }
            UploadError::Record { failed, .. } if failed.iter().any(|error| !error.is_retryable()) => Some((
                Class::Cluster,
                Some(
                    "mend what the nodes say, then the same command again; `evernear rm --unfinished` ends what did not end",
                ),
            )),
            UploadError::Outlived { lease, .. } if lease.erased => Some((
                Class::Failed,
                Some("another machine of the owner ended it; `evernear rm --unfinished`, then the same command again"),
            )),
            UploadError::Outlived { .. } => Some((
                Class::Failed,
                Some(
                    "it is read by that lease: `evernear owner recover` brings it into the index, `evernear renew` goes on from it",
                ),
            )),
            UploadError::Lost { .. } | UploadError::Record { .. } => Some((
                Class::Cluster,
                Some(
                    "the same command again when these nodes are back, or once the others have noticed that they are gone \
                     (`evernear node ls`): a file of more than 4 MiB goes on where it was; or a --profile with fewer nodes. \
                     `evernear ls --unfinished` shows what did not end, `evernear rm --unfinished` ends it once they are back",
                ),
            )),
        };
    }
    if let Some(error) = cause.downcast_ref::<NetworkError>() {
        return match error {
            NetworkError::NoNode { .. } => {
                let next = "start `evernear up`, if it made this network; else check that the nodes of twin.toml run and are reachable";
                Some((Class::Cluster, Some(next)))
            }
            NetworkError::Identity(IdentityError::Early { .. }) => {
                Some((Class::Failed, Some("set the clock of this machine (`timedatectl` shows it)")))
            }
            NetworkError::Identity(IdentityError::Ended { .. }) => Some((
                Class::Failed,
                Some(
                    "look at the clock of this machine first (`timedatectl`); if it is right, `evernear cluster renew`",
                ),
            )),
            NetworkError::Identity(_) => Some((
                Class::Failed,
                Some("`evernear cluster issue DIR NAME --role twin` makes the files of an identity"),
            )),
        };
    }
    if cause.downcast_ref::<OpenError>().is_some_and(OpenError::is_password) {
        return Some((
            Class::Failed,
            Some(
                "a line HOST:PORT:DATABASE:USER:PASSWORD in ~/.pgpass of the user that runs this (mode 0600), or in the file of PGPASSFILE",
            ),
        ));
    }
    if let Some(error) = cause.downcast_ref::<DrainError>() {
        return Some((
            Class::Cluster,
            Some(match error {
                DrainError::Stuck { .. } => {
                    "add origins, or free room on those that are there; owners may allow more places or renew with less parity \
                     (`evernear renew LABEL --profile 4+1`). `evernear node drain --undo` fills it again"
                }
                DrainError::Late { .. } => {
                    "again with a longer --timeout; `evernear repair status` shows what repair does"
                }
            }),
        ));
    }
    if let Some(error) = cause.downcast_ref::<PolicySourceError>() {
        let advice = match error {
            PolicySourceError::Io { .. } => "check the name; a component's file is looked for beside the policy file",
            PolicySourceError::Large { .. } => "make it smaller, or two links of it",
            PolicySourceError::Toml(_)
            | PolicySourceError::Shape
            | PolicySourceError::Outside { .. }
            | PolicySourceError::Component { .. }
            | PolicySourceError::File { .. }
            | PolicySourceError::Unknown { .. }
            | PolicySourceError::Config { .. } => "mend the policy file; `evernear help policy check` shows one",
        };
        return Some((Class::Failed, Some(advice)));
    }
    if cause.is::<sandbox::ConfigError>() {
        let advice = "mend this link in the policy file; docs/policy.md has the keys of each ready-made component and what belongs under them";
        return Some((Class::Failed, Some(advice)));
    }
    if cause.is::<AdmitError>() {
        let advice =
            "build the component as policies/template is built; docs/policy.md has the limits, under \"Your own\"";
        return Some((Class::Failed, Some(advice)));
    }
    if let Some(error) = cause.downcast_ref::<GuardError>() {
        let advice = match error {
            GuardError::Spawn { .. } | GuardError::Pipe { .. } => "again: the policy itself was not judged",
            GuardError::Deadline { .. } | GuardError::Refused { .. } | GuardError::TooBig { .. } => {
                "make the component smaller or simpler; docs/policy.md has the limits, under \"Your own\""
            }
        };
        return Some((Class::Failed, Some(advice)));
    }
    if let Some(error) = cause.downcast_ref::<PutError>() {
        match error {
            PutError::FolderType { .. } => {
                return Some((Class::Usage, Some("leave --type out: of a folder each file gets its own")));
            }
            PutError::Name { .. } => return Some((Class::Usage, Some("--name NAME"))),
            PutError::Bounds { .. } | PutError::Tag { .. } => return Some((Class::Usage, None)),
            PutError::Kind { .. } | PutError::Path { .. } => return Some((Class::Failed, None)),
            _ => {}
        }
    }
    if let Some(error) = cause.downcast_ref::<UnfinishedError>() {
        return match error {
            UnfinishedError::Absent { .. }
            | UnfinishedError::Options { .. }
            | UnfinishedError::Behind { .. }
            | UnfinishedError::Changed { .. } => Some((Class::Usage, None)),
            _ => None,
        };
    }
    if let Some(TreeError::Bad { .. }) = cause.downcast_ref::<TreeError>() {
        return Some((Class::Failed, Some("rename or mend these, or --skip-bad to store the folder without them")));
    }
    if let Some(error) = cause.downcast_ref::<EncodingError>() {
        match error {
            EncodingError::Changed { .. } => {
                return Some((
                    Class::Failed,
                    Some(
                        "again when nobody writes to it, or --allow-changing to store what is read; of a folder --skip-bad leaves it out. \
                         `evernear rm --unfinished` ends what a folder left",
                    ),
                ));
            }
            EncodingError::Read { .. } => {
                return Some((Class::Failed, Some("look at the file; of a folder --skip-bad leaves it out")));
            }
            EncodingError::Twice => return Some((Class::Usage, Some("leave --dedup out, or store it from a file"))),
            _ => {}
        }
    }
    match cause.downcast_ref::<TargetError>() {
        Some(TargetError::Inside { .. } | TargetError::Label(_) | TargetError::Path { .. } | TargetError::Deep) => {
            return Some((Class::Usage, None));
        }
        Some(TargetError::NoFolder { .. }) => {
            return Some((Class::NotFound, Some("`evernear ls --all` shows the paths of what is stored")));
        }
        _ => {}
    }
    if let Some(error) = cause.downcast_ref::<OperatorError>() {
        return match error {
            OperatorError::NoRecord { .. } => {
                Some((Class::NotFound, Some("check the link; a new object may take some seconds to be known")))
            }
            OperatorError::NoAnswer { .. } => {
                Some((Class::Cluster, Some("again in a moment: nodes may be restarting")))
            }
            OperatorError::Refused(_) => None,
        };
    }
    if let Some(RecoverError::NoNode { .. }) = cause.downcast_ref::<RecoverError>() {
        return Some((Class::Cluster, Some("again when nodes run: `evernear node ls` shows them")));
    }
    if let Some(error) = cause.downcast_ref::<PublishError>() {
        return match error {
            PublishError::BuiltIn { .. } => Some((Class::Usage, None)),
            PublishError::Ended { .. } => Some((Class::Usage, Some("a later --expires"))),
            PublishError::Clock(_) => None,
            PublishError::NoNode { source: Some(refused) } if !refused.is_passing() => {
                Some((Class::Cluster, Some(MEND)))
            }
            PublishError::NoPolicy { source: None, .. } => {
                Some((Class::NotFound, Some("`evernear policy publish NAME FILE` publishes it")))
            }
            PublishError::NoPolicy { source: Some(_), .. } => {
                Some((Class::Cluster, Some("again when the nodes are back, or publish it with its file")))
            }
            PublishError::NoNode { .. } | PublishError::Manifest(_) => {
                Some((Class::Cluster, Some("again: the version before stays in force until then")))
            }
        };
    }
    if let Some(error) = cause.downcast_ref::<PurgeOrderError>() {
        return match error {
            PurgeOrderError::NoTag { .. } => {
                Some((Class::NotFound, Some("`evernear stat LABEL` shows an object's tags")))
            }
            PurgeOrderError::Clock(_) => None,
            PurgeOrderError::NoNode { source: Some(refused) } if !refused.is_passing() => {
                Some((Class::Cluster, Some(MEND)))
            }
            PurgeOrderError::NoNode { .. } => {
                Some((Class::Cluster, Some("again: sending an order twice does no harm")))
            }
        };
    }
    if let Some(error) = cause.downcast_ref::<OwnerError>() {
        return match error {
            OwnerError::Absent { .. } => Some((Class::Owner, Some("`evernear owner new` makes one"))),
            OwnerError::Wrong { .. } => Some((Class::Owner, Some("again, looking at keyboard layout and capitals"))),
            OwnerError::LockKind { .. } => Some((Class::Owner, Some("--key-file FILE or --passphrase-file FILE"))),
            OwnerError::Exists { .. } => Some((Class::Failed, Some("another --state DIR for another owner"))),
            _ => None,
        };
    }
    if let Some(ConfigError::Io { .. }) = cause.downcast_ref::<ConfigError>() {
        return Some((
            Class::Failed,
            Some("--config FILE, or a twin.toml in the state folder (`evernear help put` shows one)"),
        ));
    }
    if let Some(error) = cause.downcast_ref::<IndexError>() {
        let advice = match error {
            IndexError::Busy { .. } => "again when the other program has ended",
            IndexError::Damaged { .. } => {
                "move it away and `evernear owner recover`, or put a copy of it back; `evernear index check` tells how much of this one is good"
            }
            IndexError::Unknown { .. } | IndexError::Version { .. } => {
                "the version of this program that wrote it; nothing is lost, and this one does not write to it"
            }
            IndexError::OtherOwner { .. } => "the --state DIR of its owner: owner.key and index belong together",
            IndexError::Full => "`evernear rm` what is no longer needed, or another owner with another --state DIR",
            IndexError::Unfit { .. } => "a shorter name or path, and fewer --places and tags",
            IndexError::Io { .. } | IndexError::Random(_) => return None,
        };
        return Some((Class::Failed, Some(advice)));
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return match error {
            StoreError::NoDatabase { .. } => Some((
                Class::Failed,
                Some(
                    "move it away, with the files whose names begin as its own does, and make tokens again; what was stored stays",
                ),
            )),
            StoreError::Later { .. } => Some((Class::Failed, Some("the version of this program that wrote it"))),
            _ => None,
        };
    }
    // Whatever was written: every chain that ends here names the file.
    let disk = cause.downcast_ref::<io::Error>().and_then(|error| Unwritable::of(error))?;
    let advice = match disk {
        Unwritable::Full => "free some room there, then the same command again",
        Unwritable::ReadOnly => {
            "mount it so that it can be written (`dmesg` tells whether an error made it read-only), then the same command again"
        }
    };
    Some((Class::Failed, Some(advice)))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_known_fault_decides_whatever_is_wrapped_around_it() {
        let erased =
            Err::<(), _>(GetError::Read(ReadError::Open(ObjectError::Erased))).context("a").context("b").unwrap_err();
        assert_eq!(judge(&erased).0, Class::NotFound);
        let wrong = Error::new(OwnerError::Wrong { lock: twin::LockKind::Passphrase }).context("c");
        assert_eq!(judge(&wrong).0, Class::Owner);
        assert_eq!(judge(&anyhow::anyhow!("else")), (Class::Failed, None));
    }

    #[test]
    fn what_nodes_refuse_is_not_to_be_tried_again_as_it_is() {
        let node = || "o1".parse().unwrap();
        let refused =
            || client::TransportError::Refused { node: node(), status: 409, reason: "the lease ended".into() };
        let record = |failed| UploadError::Record { stored: 0, asked: 1, need: 1, failed };
        let too_few = |source| LeaseChangeError::TooFew { told: 0, asked: 1, source: Some(source) };
        let silent = || client::TransportError::TimedOut { node: node() };
        let advice = |error: Error| judge(&error).1.unwrap();
        assert!(advice(record(vec![silent(), refused()]).into()).starts_with("mend what the nodes say"));
        assert!(advice(record(vec![silent()]).into()).starts_with("the same command again"));
        assert!(advice(too_few(refused()).into()).starts_with("mend what the node says"));
        assert!(advice(too_few(silent()).into()).starts_with("again"));
    }

    #[test]
    fn the_next_step_is_the_one_that_helps() {
        let wrong = ClockError { here: 0, nodes: 86_400 };
        let refused =
            || client::TransportError::Refused { node: "o1".parse().unwrap(), status: 400, reason: "x".into() };
        let too_few = |wanted: &[format::Domain]| {
            UploadError::Placement(PlacementError::TooFew {
                redundancy: "4+2".parse().unwrap(),
                need: 6,
                have: 2,
                known: 9,
                full: 0,
                leaving: 0,
                wanted: wanted.to_vec(),
                refused: Vec::new(),
            })
        };
        let steps: [(Error, Class, &str); 10] = [
            (too_few(&[]).into(), Class::Cluster, "a profile with fewer nodes"),
            (too_few(&["zone:a".parse().unwrap()]).into(), Class::Cluster, "more --places"),
            (LeaseChangeError::from(RetentionError::from(wrong)).into(), Class::Failed, "set the clock"),
            (PutError::from(RetentionError::from(wrong)).into(), Class::Failed, "set the clock"),
            (NameChangeError::from(wrong).into(), Class::Failed, "set the clock"),
            (PublishError::from(wrong).into(), Class::Failed, "set the clock"),
            (LeaseChangeError::Kept { until: 9 }.into(), Class::Failed, "again after that time"),
            (LeaseChangeError::Overtaken { version: 2 }.into(), Class::Cluster, "again when the other"),
            (PublishError::NoNode { source: Some(refused()) }.into(), Class::Cluster, "mend what the node says"),
            (PurgeOrderError::NoNode { source: Some(refused()) }.into(), Class::Cluster, "mend what the node says"),
        ];
        for (error, class, step) in steps {
            let (found, advice) = judge(&error);
            assert!(found == class && advice.unwrap().starts_with(step), "{error:?}: {advice:?}");
        }
        let report = Report::of(&Error::new(NameChangeError::from(wrong))).text();
        assert!(report.contains("1970-01-01T00:00:00Z by this machine's clock and 1970-01-02T00:00:00Z by the nodes'"));
    }

    #[test]
    fn a_disk_that_takes_no_write_is_told_with_the_next_step() {
        let (full, path) = (|| io::Error::from(io::ErrorKind::StorageFull), || std::path::PathBuf::from("x"));
        let journal = || UnfinishedError::Io { path: path(), source: full() };
        let errors: [Error; 6] = [
            IndexError::Io { path: path(), source: full() }.into(),
            PutError::from(IndexError::Io { path: path(), source: full() }).into(),
            PutError::from(journal()).into(),
            PutError::from(EncodingError::Unnoted { path: path(), source: journal() }).into(),
            GetError::Write { path: path(), source: io::ErrorKind::QuotaExceeded.into() }.into(),
            Error::new(full()).context("standard output cannot be written"),
        ];
        for error in errors {
            assert_eq!(
                judge(&error),
                (Class::Failed, Some("free some room there, then the same command again")),
                "{error:?}"
            );
        }
        let io = |kind: io::ErrorKind| judge(&IndexError::Io { path: path(), source: kind.into() }.into());
        assert!(io(io::ErrorKind::ReadOnlyFilesystem).1.unwrap().starts_with("mount it"));
        assert_eq!(io(io::ErrorKind::PermissionDenied), (Class::Failed, None));
    }

    #[test]
    fn what_is_wrong_with_the_command_line_itself_ends_with_two() {
        let target = |text: &str| text.parse::<twin::Target>().unwrap_err();
        let level = format::Level::Zone;
        let errors: [Error; 7] = [
            target("no-label").into(),
            Error::new(target("no-label")).context("the object cannot be looked for"),
            PutError::Bounds { what: "name", max: 255 }.into(),
            PutError::Name { name: "a/b".into() }.into(),
            PutError::Tag { tag: "a\nb".into() }.into(),
            PutError::from(EncodingError::Twice).into(),
            LeaseChangeError::Caps { level }.into(),
        ];
        for error in errors {
            assert_eq!(judge(&error).0, Class::Usage, "{error:?}");
        }
    }

    #[test]
    fn what_a_cause_repeats_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("error returned from database: {0}")]
        struct Repeats(#[source] std::fmt::Error);
        let error = Error::new(Repeats(std::fmt::Error)).context("the catalog cannot be opened");
        assert_eq!(causes(&error), [format!("error returned from database: {}", std::fmt::Error)]);
        assert_eq!(causes(&anyhow::anyhow!("b").context("a")), ["b"]);
    }

    #[test]
    fn a_report_has_error_causes_and_advice_on_lines_of_their_own() {
        let report =
            Report { error: "a".into(), causes: vec!["b".into(), "c".into()], advice: Some("d".into()), code: 1 };
        assert_eq!(report.text(), "error: a\ncause: b\ncause: c\ntry: d\n");
        let report = Report { error: "a\u{1b}[2J\ntry: e".into(), causes: vec![], advice: None, code: 1 };
        assert_eq!(report.text(), "error: a\\u{1b}[2J\n  try: e\n", "a name is no line of its own");
    }
}
