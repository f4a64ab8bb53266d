//! Graceful restart: a running edge makes way for a successor with a new configuration or a new program, and no
//! connection is refused or cut.
//!
//! The successor gets the listening sockets in the way service managers pass them (socket activation,
//! `sd_listen_fds(3)`), and one more socket on which it reports that it is ready. Its predecessor answers viewers until
//! then, and continues if the successor never becomes ready.

use std::{
    env, io,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process,
    time::Duration,
};

use anyhow::{Context, bail};
use command_fds::{CommandFdExt, FdMapping};
use edge::Sockets;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::timeout;

/// The first descriptor that is passed, by `sd_listen_fds(3)`.
const FIRST_FD: i32 = 3;
/// A successor must be ready within this time. It loads its configuration and compiles a policy, which takes a second.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const READY: &[u8] = b"ready";

/// What this process was started with.
#[derive(Default)]
pub(crate) struct Handed {
    pub(crate) sockets: Sockets,
    predecessor: Option<UnixDatagram>,
}

impl Handed {
    /// Takes the sockets that the environment names. There are none without a predecessor or a service manager that
    /// listens for this process.
    pub(crate) fn take() -> Self {
        let mut passed = ListenFd::from_env();
        let mut handed = Self::default();
        for index in 0..passed.len() {
            if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
                handed.sockets.tcp.push(socket);
            } else if let Ok(Some(socket)) = passed.take_udp_socket(index) {
                handed.sockets.udp.push(socket);
            } else if let Ok(Some(socket)) = passed.take_unix_datagram(index) {
                handed.predecessor = Some(socket);
            } else {
                tracing::warn!(index, "a descriptor that was passed is no socket for an edge");
            }
        }
        handed
    }

    /// Tells the predecessor that this process is ready, or, without a predecessor, the service manager. To the manager
    /// the predecessor is the main process, and it accepts notifications from the main process only.
    ///
    /// # Errors
    /// When the predecessor no longer waits: it continues to answer viewers, so this process must not.
    pub(crate) fn ready(&self) -> anyhow::Result<()> {
        match &self.predecessor {
            Some(predecessor) => {
                predecessor.send(READY).context("the predecessor waits no longer")?;
            }
            None => tell(NotifyState::Ready),
        }
        Ok(())
    }
}

/// Starts this program again, with the same arguments and from the same path, and waits until it is ready. Returns the
/// id of the new process.
///
/// # Errors
/// When it is not ready within 30 s. It is killed then.
pub(crate) async fn succeed(sockets: &Sockets) -> anyhow::Result<u32> {
    let (ours, theirs) = UnixDatagram::pair()?;
    let tcp = sockets.tcp.iter().map(|socket| socket.try_clone().map(OwnedFd::from));
    let udp = sockets.udp.iter().map(|socket| socket.try_clone().map(OwnedFd::from));
    let passed: Vec<OwnedFd> = tcp.chain(udp).chain([Ok(theirs.into())]).collect::<io::Result<_>>()?;
    let mut arguments = env::args_os();
    let mut command = process::Command::new(arguments.next().context("this program was started without a name")?);
    command.args(arguments).env("LISTEN_FDS", passed.len().to_string()).env_remove("LISTEN_PID");
    let mappings = passed.into_iter().zip(FIRST_FD..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect())?;
    let mut command = tokio::process::Command::from(command);
    let mut successor = command.spawn().context("it cannot be started")?;
    // Closes this process's copy of the successor's socket, so that the successor has the only one.
    drop(command);
    let id = successor.id().context("it has ended at once")?;

    ours.set_nonblocking(true)?;
    let ours = tokio::net::UnixDatagram::from_std(ours)?;
    let mut word = [0; READY.len()];
    tokio::select! {
        said = timeout(READY_DEADLINE, ours.recv(&mut word)) => {
            if !matches!(said, Ok(Ok(_))) {
                successor.kill().await.context("it does not answer, and cannot be ended")?;
                bail!("it does not answer within {} seconds", READY_DEADLINE.as_secs());
            }
        }
        status = successor.wait() => bail!("it has ended, {}", status?),
    }
    tell(NotifyState::MainPid(id));
    Ok(id)
}

/// Notifies the service manager, if there is one.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager is not told");
    }
}
