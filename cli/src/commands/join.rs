//! `evernear join`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use format::wire::Role;
use serde::Serialize;

use ::up::{Invitation, JoinOptions, Joined};

use super::{
    Options,
    edge::{self, HangUp},
    origin, up,
};
use crate::fault::Usage;

/// Make this machine a node of another machine's network, and run it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear join evj_AQIA...                   as `evernear node invite` printed it where `evernear up` runs
  evernear join evj_AQEA... /mnt/a            an origin, whose shards lie on that disk
  evernear join                               goes on with what this machine is, until Ctrl-C
  evernear join evj_AQIA... --listen 0.0.0.0:8080

The key of the node is made here and stays here. Name and fingerprints are shown here and by `evernear node invitations` there. What was cut short is
gone on with by the same command. All lies in the folder `node` of the state folder: its configuration is a file to be changed, with which
`evernear edge run --config FILE` or `evernear origin run --config FILE` runs the node as a service.")]
pub(crate) struct Join {
    /// The invitation; none where this machine has joined already
    invitation: Option<String>,
    /// Folder on the disk that an origin fills [default: one in the state folder]
    #[arg(value_name = "DISK")]
    disk: Option<PathBuf>,
    /// Where an edge answers HTTP, and an origin other nodes [default: an edge at 127.0.0.1:8080, or the next free
    /// port; an origin at this machine's address towards the network, from port 7500 on]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// What is lost together with this machine, for example a house [default: the node's name]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

/// A node that answers.
#[derive(Serialize)]
struct Said<'a> {
    name: &'a str,
    role: &'static str,
    address: SocketAddr,
    config: &'a Path,
    certificate: String,
    authority: String,
    is_new: bool,
}

impl Join {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let Self { invitation, disk, listen, zone } = self;
        let invitation = match invitation.as_deref().map(str::parse::<Invitation>).transpose() {
            Ok(invitation) => invitation,
            // clap would show what was typed.
            Err(error) => return Err(Usage(error.to_string()).into()),
        };
        let state = options.state()?.path().to_owned();
        let program = up::with_state(&up::program(), &state, options.is_default_state());
        let joined = ::up::join(JoinOptions { state, invitation, disk, listen, zone }).await?;
        let answers = |address| {
            let said = Said {
                name: joined.name.as_str(),
                role: joined.role.as_str(),
                address,
                config: &joined.config,
                certificate: joined.certificate.to_string(),
                authority: joined.authority.to_string(),
                is_new: joined.is_new,
            };
            options.line(&said, || text(&joined, address, &program))
        };
        match joined.role {
            Role::Origin => Box::pin(origin::run(&joined.config, answers)).await,
            _ => Box::pin(edge::run(&joined.config, HangUp::Stop, answers)).await,
        }
    }
}

/// Formats it for people. `program` is what to type for this program.
fn text(joined: &Joined, address: SocketAddr, program: &str) -> String {
    let Joined { name, role, config, certificate, authority, is_new } = joined;
    let (begun, role) = (if *is_new { "This machine has joined: the" } else { "The" }, role.as_str());
    let door = if role == "edge" { "http       " } else { "listens at " };
    format!(
        "{begun} {role} {name} answers.\n\n  {door}  {address}\n  certificate  {certificate}\n  authority    {authority}\n  config       {}\n\n\
         Ctrl-C stops it; `{program} join` goes on with it. A service runs it by `evernear {role} run --config {}`.\n",
        config.display(),
        up::word(config),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_has_the_fingerprints_and_how_a_service_runs_it() {
        let joined = Joined {
            name: "edge1".parse().unwrap(),
            role: Role::Edge,
            config: "/home/me/.evernear/node/edge.toml".into(),
            certificate: client::tls::Fingerprint([0xab; 32]),
            authority: client::tls::Fingerprint([0xcd; 32]),
            is_new: true,
        };
        let said = text(&joined, "127.0.0.1:8080".parse().unwrap(), "evernear --state /s");
        for line in [
            "This machine has joined: the edge edge1 answers.\n",
            "\n  http         127.0.0.1:8080\n",
            "\n  certificate  AB:AB:",
            "\n  authority    CD:CD:",
            "`evernear --state /s join` goes on",
            "`evernear edge run --config /home/me/.evernear/node/edge.toml`",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(
            text(&Joined { is_new: false, ..joined }, "127.0.0.1:1".parse().unwrap(), "evernear")
                .starts_with("The edge edge1 answers.")
        );
    }
}
