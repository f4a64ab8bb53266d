//! `evernear twin run | console | token new | token ls | token rm`.

use std::{net::SocketAddr, sync::Arc};

use ::twin::{Index, Network, Twin as Agent};
use anyhow::{Context, bail};
use api::{Api, Grant, Maker, RATE_DEFAULT, STORE_FILE, Scope, Store, Token};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Options, signals::Signals};
use crate::{
    fault::Usage,
    moment,
    output::table,
    owner_access::{ClusterAccess, KeyAccess, StateFolder, open_secret},
    policy_check,
};

/// Answer HTTP for this owner, and say who may ask.
#[derive(Debug, Args)]
pub(crate) struct Twin {
    #[command(subcommand)]
    command: TwinCommand,
}

#[derive(Debug, Subcommand)]
enum TwinCommand {
    /// Answer HTTP until Ctrl-C or SIGTERM: uploads, lists, renewals, erasures
    #[command(after_help = "\
Examples:
  evernear twin run
  evernear twin run --listen 127.0.0.1:9000

Every request needs a token: `evernear twin token new laptop` makes one. Then
  curl -H \"authorization: Bearer $TOKEN\" -T film.mp4 http://127.0.0.1:8081/files/
stores a file. [api] of twin.toml has the bounds; docs/api.md has the routes. It listens on loopback unless told otherwise, and
tokens cross the connection in clear: beyond loopback, put what speaks TLS in front.")]
    Run {
        /// Address and port, instead of `listen` in [api] of twin.toml
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Print a link into the console of the twin that runs; it signs one browser in, within ten minutes
    #[command(after_help = "\
Examples:
  evernear twin console
  evernear twin console --json

Whoever opens it first is signed in as an admin, for 30 days or until they sign out. `evernear twin token rm console` signs all out
who came by such a link; tokens that they made stay (`maker` in `evernear twin token ls --json`). No key of the owner is
needed: whoever may use the state folder may do this.")]
    Console,
    /// Make, list and end tokens
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and show it, once
    #[command(after_help = "\
Examples:
  evernear twin token new laptop
  evernear twin token new ci --scope write --expires +90d --quota 10737418240
  evernear twin token new page --scope read --rate 10

Nothing but a hash of it is kept. It counts at once, also at a twin that runs.")]
    New {
        /// What it is called in lists
        name: String,
        /// read: lists, with the links that open what is stored; write: storing, renewing, erasing too; admin:
        /// policies, tokens and the audit log too
        #[arg(long, default_value = "write")]
        scope: Scope,
        /// It ends at: 2027-01-31, 2027-01-31T12:00:00Z, +30d, or never
        #[arg(long, value_name = "TIME", value_parser = moment::to_come_or_never("name a time to come, or never"), default_value = "never")]
        expires: u64,
        /// Bytes that it may store in all, each object counting 512 at least [default: no bound]
        #[arg(long, value_name = "BYTES")]
        quota: Option<u64>,
        /// Requests a second; for a moment it may make ten times as many
        #[arg(long, value_name = "NUMBER", default_value_t = RATE_DEFAULT, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
    },
    /// List tokens, without their secrets
    #[command(after_help = "\
Examples:
  evernear twin token ls
  evernear twin token ls --all --json")]
    Ls {
        /// Show those that were ended too
        #[arg(long)]
        all: bool,
    },
    /// End a token, and those that were made by it over HTTP; what they stored stays, what they began is forgotten
    #[command(after_help = "\
Examples:
  evernear twin token rm laptop
  evernear twin token rm 3f0c9a2be17d4455")]
    Rm {
        /// Its name or its id
        token: String,
    },
}

/// A link into the console.
#[derive(Serialize)]
struct Opened<'a> {
    url: &'a str,
}

/// A token that was made.
#[derive(Serialize)]
struct Made<'a> {
    id: String,
    name: &'a str,
    scope: Scope,
    expires: u64,
    quota: Option<u64>,
    rate: u32,
    token: &'a str,
}

/// A token in a list.
#[derive(Serialize)]
struct Line {
    id: String,
    name: String,
    scope: Scope,
    /// Seconds since 1970; zero for none.
    created: u64,
    expires: u64,
    ended: u64,
    quota: Option<u64>,
    /// Bytes that it has stored.
    used: u64,
    rate: u32,
    /// The id of the token that made it; none for one that a command made.
    maker: Option<String>,
}

/// A twin that runs, for programs that wait for it.
#[derive(Serialize)]
struct Ready {
    listen: SocketAddr,
    url: String,
}

impl Twin {
    pub(crate) fn is_node(&self) -> bool {
        matches!(self.command, TwinCommand::Run { .. })
    }

    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let state = options.state()?;
        match self.command {
            TwinCommand::Run { listen, keys, cluster } => run(&state, listen, &keys, &cluster, options).await,
            TwinCommand::Console => {
                let link = api::console_link(state.path()).await?;
                options.answer(&Opened { url: link.expose() }, || format!("{}\n", link.expose()))
            }
            TwinCommand::Token { command } => token(&state, command, options).await,
        }
    }
}

async fn run(
    state: &StateFolder,
    listen: Option<SocketAddr>,
    keys: &KeyAccess,
    cluster: &ClusterAccess,
    options: &Options,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut config = state.config(cluster)?;
    if let Some(listen) = listen {
        config.api.listen = listen;
    }
    let secret = open_secret(state, keys, cluster).await?;
    let (path, opener) = (state.index(), secret.clone());
    let index = tokio::task::spawn_blocking(move || Index::open(path, &opener));
    let index = index.await.context("opening the index was cut short")??;
    let network = Network::connect(&config).await?;
    let twin = Arc::new(Agent::new(&secret, index, Arc::new(network)));
    drop(secret);
    let stop = CancellationToken::new();
    let running = Api::start(&config, state.path(), twin, policy_check::compiler()?, stop.clone()).await?;
    let ready = Ready { listen: running.local_addr, url: running.url.clone() };
    options.answer(&ready, || format!("the twin answers at {}\n", ready.url))?;
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut stopped = tokio::spawn(running.stopped());
    tokio::select! {
        ended = &mut stopped => return ended?.context("the twin ended by itself"),
        // Every signal ends it, SIGHUP too: a new configuration takes effect at the next start.
        _ = signals.next() => {}
    }
    stop.cancel();
    stopped.await?.context("the twin did not stop in order")
}

async fn token(state: &StateFolder, command: TokenCommand, options: &Options) -> anyhow::Result<()> {
    if !state.owner_key().path().exists() {
        bail!("there is no owner in {}; `evernear owner new` makes one", state.path().display());
    }
    if !matches!(command, TokenCommand::New { .. }) && !state.path().join(STORE_FILE).exists() {
        let what = "no token was made yet; `evernear twin token new NAME` makes one";
        return match command {
            TokenCommand::Ls { .. } => options.answer(&Vec::<Line>::new(), || format!("{what}\n")),
            _ => bail!(what),
        };
    }
    let store = Store::open(state.path()).await?;
    let done = match command {
        TokenCommand::New { name, scope, expires, quota, rate } => {
            let expires = (expires != 0).then_some(expires);
            new(&store, name, scope, (expires, quota, rate), options).await
        }
        TokenCommand::Ls { all } => ls(&store, all, options).await,
        TokenCommand::Rm { token } => rm(&store, &token, options).await,
    };
    store.close().await;
    done
}

async fn new(
    store: &Store,
    name: String,
    scope: Scope,
    (expires, quota_bytes, rate): (Option<u64>, Option<u64>, u32),
    options: &Options,
) -> anyhow::Result<()> {
    api::check_token_name(&name).map_err(|error| Usage(error.to_string()))?;
    let token = Token::draw(getrandom::fill).context("the system gives no random bytes")?;
    let (id, created) = (token.id(), moment::now());
    let (revoked, maker) = (None, Maker::Owner);
    let grant = Grant { id, name: name.clone(), scope, created, expires, revoked, quota_bytes, rate, maker };
    store.add(grant, token.hash()).await?;
    let text = token.expose();
    let (id, expires) = (id.to_string(), expires.unwrap_or(0));
    let made = Made { id, name: &name, scope, expires, quota: quota_bytes, rate, token: &text };
    options.answer(&made, || format!("{}\n", made.token))
}

async fn ls(store: &Store, all: bool, options: &Options) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for grant in store.tokens().await?.into_iter().filter(|grant| all || grant.revoked.is_none()) {
        lines.push(Line {
            id: grant.id.to_string(),
            used: store.used(grant.id).await?,
            name: grant.name,
            scope: grant.scope,
            created: grant.created,
            expires: grant.expires.unwrap_or(0),
            ended: grant.revoked.unwrap_or(0),
            quota: grant.quota_bytes,
            rate: grant.rate,
            maker: match grant.maker {
                Maker::Token(id) => Some(id.to_string()),
                Maker::Owner | Maker::Links => None,
            },
        });
    }
    options.answer(&lines, || {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), crate::output::bytes);
        let row = |it: &Line| {
            let ended =
                if it.ended == 0 { moment::show(it.expires) } else { format!("ended {}", moment::show(it.ended)) };
            vec![it.id.clone(), it.scope.to_string(), ended, bytes(Some(it.used)), bytes(it.quota), it.name.clone()]
        };
        let heading = ["id", "scope", "ends", "stored", "quota", "name"].map(str::to_owned).to_vec();
        table(&[heading].into_iter().chain(lines.iter().map(row)).collect::<Vec<_>>())
    })
}

async fn rm(store: &Store, token: &str, options: &Options) -> anyhow::Result<()> {
    let Some(grant) = store.find_token(token).await? else {
        bail!("there is no token {token:?} that counts; `evernear twin token ls` lists them");
    };
    store.revoke(grant.id, moment::now()).await?;
    options.answer(&serde_json::json!({ "id": grant.id.to_string(), "name": grant.name }), || {
        format!("ended {} ({})\n", grant.name, grant.id)
    })
}
