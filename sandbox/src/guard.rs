//! Compiling in a child process, so that a policy that breaks the compiler costs a refusal and not the edge.
//!
//! Flow: [`compile`] starts the caller's own executable with a hidden subcommand, which calls [`child_main`]. The child
//! limits itself, reads the component on stdin, admits it again, compiles it, and writes machine code to stdout. A
//! watchdog kills it at the deadline. Invariants: the child has no environment variables, 10 s of CPU time and 512 MiB
//! of address space, and it cannot write files.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, setrlimit};

use crate::admit::{Admitted, admit};
use crate::artefact::Artefact;
use crate::engine;
use crate::limits::Limits;

const CPU_SECONDS_MAX: u64 = 10;
const ADDRESS_SPACE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Machine code is about ten times as large as the wasm. A script engine of 4 MiB gives 30 MiB.
const CODE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const MESSAGE_BYTES_MAX: u64 = 4 * 1024;
/// Bytes of an engine hash. The child's input is the number of engine hashes (u8), the hashes, and the component.
const HASH_BYTES: usize = 32;

/// How to start the child.
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The executable. It must be our own.
    pub program: PathBuf,
    /// The hidden subcommand that calls [`child_main`].
    pub arguments: Vec<OsString>,
    /// Wall-clock time until the child is killed. CPU time has a limit of its own. 30 s is a good deadline.
    pub deadline: Duration,
}

/// Why no machine code was made.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The child could not be started. The operator must fix it.
    #[error("cannot start the policy compiler {program}")]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Communication with the child failed. The edge is at fault: retry.
    #[error("lost the policy compiler")]
    Pipe {
        /// The error of the operating system.
        source: io::Error,
    },
    /// The policy takes too long to compile. The owner is at fault.
    #[error("policy takes longer than {deadline:?} to compile")]
    Deadline {
        /// The deadline.
        deadline: Duration,
    },
    /// The compiler refused the policy or was killed by its limits. The owner is at fault.
    #[error("policy cannot be compiled ({status}): {message}")]
    Refused {
        /// How the child ended. A signal means that it hit a limit.
        status: ExitStatus,
        /// Its message.
        message: String,
    },
    /// The policy compiles to more machine code than allowed.
    #[error("policy compiles to more than {limit} bytes")]
    TooBig {
        /// Bytes allowed.
        limit: u64,
    },
}

/// Compiles an admitted component in a child process. Blocks until the deadline at most: do not call it on a reactor
/// thread. `engines` are those passed to [`admit`].
///
/// # Errors
/// [`GuardError`].
pub fn compile(admitted: &Admitted<'_>, engines: &[[u8; 32]], command: &ChildCommand) -> Result<Artefact, GuardError> {
    let pipe = |source| GuardError::Pipe { source };
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| GuardError::Spawn { program: command.program.clone(), source })?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A child that dies early closes the pipe. Its exit status tells more than this error.
            let _ = stdin.map_or(Ok(()), |stdin| send(stdin, engines, admitted.wasm()));
        });
        let code = scope.spawn(move || receive(stdout, CODE_BYTES_MAX + 1));
        let message = scope.spawn(move || receive(stderr, MESSAGE_BYTES_MAX));
        let ended = watch(&mut child, command.deadline);
        let code = code.join().expect("the reader does not panic");
        let message = message.join().expect("the reader does not panic");
        let status = ended.map_err(pipe)?.ok_or(GuardError::Deadline { deadline: command.deadline })?;
        if !status.success() {
            let message = String::from_utf8_lossy(&message.map_err(pipe)?).trim_end().to_owned();
            return Err(GuardError::Refused { status, message });
        }
        let code = code.map_err(pipe)?;
        if u64::try_from(code.len()).map_or(true, |bytes| bytes > CODE_BYTES_MAX) {
            return Err(GuardError::TooBig { limit: CODE_BYTES_MAX });
        }
        Ok(Artefact::new(admitted, code))
    })
}

/// Runs the child: the whole `main` of the hidden subcommand.
#[must_use]
pub fn child_main() -> ExitCode {
    match compile_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // If this fails, nobody is left to report to.
            let _ = writeln!(io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Why the child gives up. People read it in [`GuardError::Refused`].
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("cannot limit itself: {0}")]
    Limit(#[from] Errno),
    #[error("cannot read or write: {0}")]
    Io(#[from] io::Error),
    #[error("input is cut")]
    Cut,
    #[error("not admitted: {0}")]
    Admit(#[from] crate::AdmitError),
    #[error("{0}")]
    Compile(#[from] crate::EngineError),
}

fn compile_stdin() -> Result<(), ChildError> {
    limit_self()?;
    let input_bytes_max = Limits::SCRIPT.component_bytes_max + 1 + usize::from(u8::MAX) * HASH_BYTES;
    let mut input = Vec::new();
    io::stdin().lock().take(u64::try_from(input_bytes_max).unwrap_or(u64::MAX)).read_to_end(&mut input)?;
    let (count, rest) = input.split_first().ok_or(ChildError::Cut)?;
    let (hashes, wasm) = rest.split_at_checked(usize::from(*count) * HASH_BYTES).ok_or(ChildError::Cut)?;
    let engines: Vec<[u8; HASH_BYTES]> = hashes.as_chunks().0.to_vec();
    let artefact = engine::compile_poolless(&admit(wasm, &engines)?)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(artefact.code())?;
    stdout.flush()?;
    Ok(())
}

fn limit_self() -> Result<(), Errno> {
    let limit = |resource, most: u64| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Cpu, CPU_SECONDS_MAX)?;
    limit(Resource::As, ADDRESS_SPACE_BYTES_MAX)
}

fn send(mut stdin: impl Write, engines: &[[u8; 32]], wasm: &[u8]) -> io::Result<()> {
    let count = u8::try_from(engines.len()).map_err(io::Error::other)?;
    stdin.write_all(&[count])?;
    stdin.write_all(engines.as_flattened())?;
    stdin.write_all(wasm)
}

fn receive(pipe: Option<impl Read>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Waits for the child until the deadline, then kills it. Returns `None` if it was killed.
fn watch(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(error) => return Err(error.into()),
        }
    }
}
