//! One-time links: whoever may use the owner's state folder makes one, and the browser that opens it first is signed in
//! as an admin. The secret stands in the fragment, which no browser sends to a server.

use std::{
    fmt,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    console::ROOT,
    run::LOCK_FILE,
    service::now,
    session::{KEY_SECONDS, Secret},
    store::{Store, StoreError, Write},
    token::{Grant, LINKS_NAME, Maker, RATE_DEFAULT, Scope, Token, TokenId},
};

/// Longest URL in the lock file: a name of 253 characters, and what is around it.
const URL_BYTES_MAX: u64 = 512;

/// A link that signs one browser in within ten minutes. It is a secret until then.
pub struct Link(Zeroizing<String>);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No twin answers for this state folder; the caller must start one.
    #[error("no twin runs on {}; `evernear twin run` or `evernear up` starts one", path.display())]
    Stopped {
        /// The state folder.
        path: PathBuf,
    },
    /// The state folder cannot be read.
    #[error("the state folder {} cannot be read", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file of tokens cannot be used.
    #[error("the link cannot be kept")]
    Store(#[from] StoreError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Link {
    /// Returns the URL.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// Makes a link into the console of the twin that runs on a state folder, in this process or another.
///
/// # Errors
/// [`LinkError`].
pub async fn console_link(state: &Path) -> Result<Link, LinkError> {
    let folder = state.to_owned();
    let read = tokio::task::spawn_blocking(move || url(&folder)).await.map_err(|_| StoreError::Closed)?;
    let url = read.map_err(|source| LinkError::Folder { path: state.to_owned(), source })?;
    let url = url.ok_or_else(|| LinkError::Stopped { path: state.to_owned() })?;
    let store = Store::open(state).await?;
    let link = draw(&store, &url).await;
    store.close().await;
    link
}

/// Makes a link to a twin that answers at a URL, which has no path.
pub(crate) async fn draw(store: &Store, url: &str) -> Result<Link, LinkError> {
    let now = now();
    let token = match links_token(store).await? {
        Some(token) => token,
        None => add_links_token(store, now).await?,
    };
    let secret = Secret::draw(getrandom::fill)?;
    store.write(Write::Key { hash: secret.hash(), token, now, expires: now + KEY_SECONDS }).await?;
    Ok(Link(Zeroizing::new(format!("{url}{ROOT}#key={}", &*secret.expose()))))
}

/// Returns the token of all who sign in by a link. Its mark says which it is: anybody could have given its name.
async fn links_token(store: &Store) -> Result<Option<TokenId>, StoreError> {
    let is_one = |it: &Grant| it.maker == Maker::Links && it.revoked.is_none();
    Ok(store.tokens().await?.into_iter().find(is_one).map(|grant| grant.id))
}

async fn add_links_token(store: &Store, created: u64) -> Result<TokenId, LinkError> {
    let token = Token::draw(getrandom::fill)?;
    let (id, name, scope, rate, maker) = (token.id(), LINKS_NAME.to_owned(), Scope::Admin, RATE_DEFAULT, Maker::Links);
    let (expires, revoked, quota_bytes) = (None, None, None);
    let grant = Grant { id, name, scope, created, expires, revoked, quota_bytes, rate, maker };
    match store.add(grant, token.hash()).await {
        // Another program made it a moment ago.
        Err(taken @ StoreError::NameTaken { .. }) => Ok(links_token(store).await?.ok_or(taken)?),
        added => Ok(added.map(|()| id)?),
    }
}

/// Returns where the twin that holds a state folder answers; none where none does.
fn url(state: &Path) -> io::Result<Option<String>> {
    let mut file = match std::fs::File::open(state.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // A twin that starts at this moment tries again: `run::lock`.
    if file.try_lock_shared().is_ok() {
        return Ok(None);
    }
    let mut text = String::new();
    file.by_ref().take(URL_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.strip_suffix('\n').map(str::to_owned))
}

/// Returns the URL at which this machine reaches what listens at `address`, by TLS with a certificate for `name`, if it
/// is for any.
pub(crate) fn url_of(address: SocketAddr, tls: Option<Option<String>>) -> String {
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let here = SocketAddr::new(here, address.port());
    match tls {
        None => format!("http://{here}"),
        Some(None) => format!("https://{here}"),
        Some(Some(name)) if address.port() == 443 => format!("https://{name}"),
        Some(Some(name)) => format!("https://{name}:{}", address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_this_machine_where_a_twin_listens_everywhere() {
        for (listens, leads) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")] {
            let url = |tls| url_of(listens.parse().unwrap(), tls);
            assert_eq!((url(None), url(Some(None))), (format!("http://{leads}"), format!("https://{leads}")));
            let port = leads.rsplit(':').next().unwrap();
            assert_eq!(url(Some(Some("twin.example".to_owned()))), format!("https://twin.example:{port}"));
        }
    }

    #[tokio::test]
    async fn all_links_are_of_one_token_which_its_mark_names() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let url = "http://127.0.0.1:8081";
        let (a, b) = (draw(&store, url).await.unwrap(), draw(&store, url).await.unwrap());
        assert!(a.expose().starts_with("http://127.0.0.1:8081/console/#key=") && a.expose() != b.expose());
        let tokens = store.tokens().await.unwrap();
        let [console] = &tokens[..] else { panic!("{tokens:?}") };
        assert_eq!((console.name.as_str(), console.scope), ("console", Scope::Admin));
        assert_eq!(console.maker, Maker::Links);
        let somebodys = Token::draw(getrandom::fill).unwrap();
        let grant =
            |name: &str| Grant { id: somebodys.id(), maker: Maker::Owner, name: name.into(), ..console.clone() };
        let taken = store.add(grant("console"), somebodys.hash()).await.unwrap_err();
        assert!(matches!(taken, StoreError::NameTaken { .. }), "{taken:?}");
        store.revoke(console.id, 7).await.unwrap();
        store.add(grant("mine"), somebodys.hash()).await.unwrap();
        draw(&store, url).await.unwrap();
        let marked = store.tokens().await.unwrap().into_iter().filter(|it| it.maker == Maker::Links);
        let marked: Vec<_> = marked.map(|it| (it.id, it.revoked.is_some())).collect();
        assert!(marked.len() == 2 && marked.contains(&(console.id, true)), "an ended one is another: {marked:?}");
        store.close().await;
    }

    #[tokio::test]
    async fn there_is_no_link_where_no_twin_runs() {
        let folder = tempfile::tempdir().unwrap();
        let stopped = async || matches!(console_link(folder.path()).await, Err(LinkError::Stopped { .. }));
        assert!(stopped().await);
        std::fs::write(folder.path().join(LOCK_FILE), "http://127.0.0.1:8081\n").unwrap();
        assert!(stopped().await, "one was killed");
    }
}
