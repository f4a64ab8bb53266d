//! What goes on while a network runs: its disks come and go, certificates end, and what follows from that is told.

use std::time::Duration;

use client::causes;
use sandbox::guard::ChildCommand;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{Agent, AgentFault, Retry},
    clock::{self, Seen, Witness},
    disks::Disks,
    home::Home,
    settings::Given,
};

/// How often the disks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often certificates are looked at.
const RENEW_EVERY: Duration = Duration::from_secs(3600);

/// Looks after the disks, and after what follows from them, until the network stops; then it stops the twin.
pub(crate) async fn look_after(
    mut home: Home,
    mut disks: Disks,
    mut is_told: bool,
    (agent, compiler): (Result<Option<Agent>, AgentFault>, ChildCommand),
    stop: CancellationToken,
) -> Disks {
    let may_come = agent.as_ref().err().is_some_and(AgentFault::may_pass);
    let mut retry = may_come.then(|| Retry::first(Instant::now()));
    let mut agent = agent.ok().flatten();
    let mut witness = Witness::begin(clock::now(), clock::passed());
    let (mut renewed, mut said) = (Instant::now(), String::new());
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Some(is_news) = stop.run_until_cancelled(disks.look()).await else { break };
        let seen = witness.look(clock::now(), clock::passed());
        let believed = if let Seen::Believed(now) = seen { now } else { 0 };
        is_told &= !is_news && !home.is_time_old(believed);
        if !is_told {
            match home.tell(&disks, believed).await {
                Ok(Given { profile, .. }) => {
                    is_told = true;
                    if let (Some(agent), Ok(profile)) = (&agent, profile.parse()) {
                        agent.set_profile(profile);
                    }
                    said.clear();
                }
                // It is tried again at the next look.
                Err(error) => {
                    let error = causes(&error.on_state_of(&home.folders.state));
                    if error != said {
                        tracing::error!(error, "twin.toml is not told which disks there are");
                    }
                    said = error;
                }
            }
        }
        if let Some(due) = retry.filter(|retry| retry.is_due(Instant::now())) {
            let Some(started) = stop.run_until_cancelled(Box::pin(home.start_agent(compiler.clone()))).await else {
                break;
            };
            retry = started.is_err().then(|| due.next(Instant::now()));
            if let Ok(Some(started)) = started {
                // It says the opposite of a warning, and is to be heard where that was.
                tracing::warn!(address = %started.address(), "the twin answers now");
                agent = Some(started);
            }
        }
        // What was made under the clock before may begin in the future of the one that is right.
        if seen == Seen::Jumped || renewed.elapsed() > RENEW_EVERY {
            renewed = Instant::now();
            let home = home.clone();
            if let Ok(Err(error)) = client::offload(move || home.renew()).await {
                tracing::error!(error = causes(&error), "certificates are not renewed");
            }
        }
    }
    if let Some(agent) = agent {
        agent.stop().await;
    }
    disks
}
