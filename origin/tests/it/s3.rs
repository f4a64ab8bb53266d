//! An S3 server on loopback that keeps buckets in a folder, and that can be stopped, also in the middle of its work,
//! and started again.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::Service, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, runtime::Handle, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) const ACCESS_KEY: &str = "evernear-test";
pub(crate) const SECRET_KEY: &str = "not-a-secret";

/// The server and its folder, which has a folder for each bucket.
pub(crate) struct S3 {
    pub(crate) root: PathBuf,
    runtime: Handle,
    address: SocketAddr,
    tasks: TaskTracker,
    alive: CancellationToken,
    death: Arc<Death>,
}

/// When the server dies by itself.
struct Death {
    /// Requests until then.
    after: AtomicI64,
    /// Whether the last of them is still done, only not answered.
    does_the_last: bool,
}

impl Death {
    const NEVER: i64 = i64::MAX;
}

impl S3 {
    /// Starts a server on a runtime that is not this thread's.
    pub(crate) fn start(root: &Path, runtime: &Handle) -> Self {
        let mut s3 = Self {
            root: root.to_owned(),
            runtime: runtime.clone(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tasks: TaskTracker::new(),
            alive: CancellationToken::new(),
            death: Arc::new(Death { after: AtomicI64::new(Death::NEVER), does_the_last: false }),
        };
        s3.run();
        s3
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts all connections and waits until none is left.
    pub(crate) fn stop(&self) {
        self.alive.cancel();
        self.tasks.close();
        self.runtime.block_on(self.tasks.wait());
    }

    /// Starts it again, on what its folder holds.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.death = Arc::new(Death { after: AtomicI64::new(Death::NEVER), does_the_last: false });
        self.run();
    }

    /// Starts it again, to die at a later request: unheard, or done and not answered.
    pub(crate) fn restart_to_die(&mut self, after: i64, does_the_last: bool) {
        self.stop();
        self.death = Arc::new(Death { after: AtomicI64::new(after), does_the_last });
        self.run();
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        !self.alive.is_cancelled()
    }

    fn run(&mut self) {
        self.alive = CancellationToken::new();
        self.tasks = TaskTracker::new();
        let listener = self.runtime.block_on(async {
            for _ in 0..500 {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
            panic!("{} cannot be had again", self.address);
        });
        self.address = listener.local_addr().unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(&self.root).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let (service, alive, death, tasks) =
            (builder.build(), self.alive.clone(), self.death.clone(), self.tasks.clone());
        self.tasks.spawn_on(
            async move {
                loop {
                    tokio::select! {
                        () = alive.cancelled() => return,
                        accepted = listener.accept() => {
                            let (socket, _) = accepted.unwrap();
                            let (service, alive, death) = (service.clone(), alive.clone(), death.clone());
                            tasks.spawn(async move {
                                let answer = service_fn(|request| answer(&service, &alive, &death, request));
                                let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
                                tokio::select! {
                                    () = alive.cancelled() => {}
                                    _ = connection => {}
                                }
                            });
                        }
                    }
                }
            },
            &self.runtime,
        );
    }
}

async fn answer(
    service: &S3Service,
    alive: &CancellationToken,
    death: &Death,
    request: hyper::Request<Incoming>,
) -> Result<s3s::HttpResponse, s3s::HttpError> {
    let is_last = death.after.fetch_sub(1, Ordering::SeqCst) == 0;
    if is_last && !death.does_the_last {
        alive.cancel();
        std::future::pending::<()>().await;
    }
    let answer = Service::call(service, request).await;
    if is_last {
        alive.cancel();
        std::future::pending::<()>().await;
    }
    answer
}
