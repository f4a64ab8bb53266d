//! The node API over HTTP: the requests of each call and the meaning of its answers. A [`Carrier`] brings them to the
//! node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Cell, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyName, PublicManifest,
    limits::{
        BODIES_AT_ONCE_MAX, BODY_BYTES_PER_SECOND_MIN, NODES_BYTES_MAX, NODES_MAX, NOTE_BODY_BYTES_MAX,
        POLICY_COMPONENT_BYTES_MAX, POLICY_MANIFEST_BYTES_MAX, RECORD_BYTES_MAX, REFUSED_BYTES_MAX, STRIP_BYTES_MAX,
        SYNC_BYTES_PER_SECOND_MIN, shard_body_bytes_max,
    },
    wire::{
        ApiError, ChangePage, Drain, DrainPage, LocatorPage, NodeEntry, Note, ObjectHealth, RepairStatus, Retried,
        StripPath, Ticket, UploadCreated, UploadHeld, WITHIN_MS, frame_cells,
    },
};
use futures::stream;
use http::{Method, Request, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    Carrier, Membership, Said, ShardAsk, Span, Topology, Transport, TransportError,
    carrier::{AnswerBody, TlsCarrier, unreachable},
    clocks::Clocks,
    tls::{Identity, TlsError},
};

/// Deadline of one call with its answer, beside what the slowest way needs for what the call itself brings, and for the
/// strips that an owner or edge reads. Between origins a link brings 16 MiB of strips in this time.
const CALL_DEADLINE: Duration = Duration::from_secs(20);
/// A node has 60 seconds for one call on top of its body, and may read an upload back from its disk in this time.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(75);
/// Maximum number of calls with a body that go to one node concurrently. One that hangs keeps its places until their
/// deadlines, and the other nodes have three quarters of all.
const BODIES_TO_ONE_MAX: usize = BODIES_AT_ONCE_MAX / 4;
/// The slowest way between two origins on which a body comes through, in bytes in a second. A repair reads windows of
/// 16 MiB in the time of a call, so these ways are ten times as fast. With the pace of an owner's uplink, a node that
/// takes a repaired shard and hangs would hold the repair up for 10 hours with one append.
const ORIGIN_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// A long poll times out this much after the wait that it asked for.
const WAIT_GRACE: Duration = Duration::from_secs(5);
/// Maximum bytes of a JSON answer: a page of 1,000 entries with some hundred bytes each.
const JSON_BYTES_MAX: usize = 1024 * 1024;
/// Error answers are cut after this many bytes.
const ERROR_BYTES_MAX: usize = 8 * 1024;

/// Calls nodes at the addresses in a topology.
pub struct HttpTransport {
    carrier: Box<dyn Carrier>,
    /// A place for each call with a body that goes concurrently: they share an uplink, and each must come through in
    /// its time.
    bodies: Semaphore,
    /// The places of each node to which bodies go.
    bodies_to: Mutex<HashMap<NodeName, Arc<Semaphore>>>,
    /// A body has a second for so many bytes.
    bytes_per_second_min: u64,
    /// What is read of a shard has a second for so many bytes, beside the time of a call.
    shard_bytes_per_second_min: u64,
    clocks: Clocks,
}

impl HttpTransport {
    /// Makes a transport. Nodes know it as `identity`, and it refuses none of them.
    ///
    /// # Errors
    /// [`TlsError`] if the parts of the identity do not match.
    pub fn new(identity: &Identity, topology: Arc<Topology>) -> Result<Self, TlsError> {
        Ok(Self::of(Membership::new(identity, None)?, topology))
    }

    /// Makes the transport of a member, which refuses whom the cluster refuses.
    #[must_use]
    pub fn of(membership: Arc<Membership>, topology: Arc<Topology>) -> Self {
        Self::over(TlsCarrier::new(membership, topology))
    }

    /// Makes a transport over another network.
    pub fn over(carrier: impl Carrier) -> Self {
        Self {
            carrier: Box::new(carrier),
            bodies: Semaphore::new(BODIES_AT_ONCE_MAX),
            bodies_to: Mutex::default(),
            bytes_per_second_min: BODY_BYTES_PER_SECOND_MIN,
            shard_bytes_per_second_min: BODY_BYTES_PER_SECOND_MIN,
            clocks: Clocks::default(),
        }
    }

    /// Gives bodies the time that the way from one origin to another needs for them. What is read of a shard has the
    /// time of a call and no more: a source that hangs does not hold a repair up.
    #[must_use]
    pub fn between_origins(self) -> Self {
        Self { bytes_per_second_min: ORIGIN_BYTES_PER_SECOND_MIN, shard_bytes_per_second_min: u64::MAX, ..self }
    }

    /// Makes repairs that were given up wait again.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn retry_repairs(&self, node: &NodeName) -> Result<Retried, TransportError> {
        self.json(node, Call::new(Method::POST, "/v1/repairs/retry".to_owned())).await
    }

    /// Empties (drains) the node, or lets it take shards again. Only the node's own identity may do this.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn drain(&self, node: &NodeName, draining: bool) -> Result<(), TransportError> {
        let body = serde_json::to_vec(&Drain { draining }).expect("a flag is JSON");
        self.put(node, format!("/v1/nodes/{node}/drain"), body.into()).await
    }

    /// Asks what would happen to a node's shards if it were emptied. The answer covers one page of objects, after the
    /// given one.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn drain_outlook(&self, node: &NodeName, after: Option<&ObjectId>) -> Result<DrainPage, TransportError> {
        let after = after.map_or_else(String::new, |object| format!("?after={object}"));
        self.json(node, Call::get(format!("/v1/nodes/{node}/drain{after}"))).await
    }

    /// Asks for something that may not be there. Returns `None` for status 404.
    async fn find(&self, node: &NodeName, call: Call, max: usize) -> Result<Option<Bytes>, TransportError> {
        match self.call(node, call, max).await {
            Err(TransportError::Refused { status: 404, .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Makes one call and returns the body of its answer, at most `max` bytes.
    async fn call(&self, node: &NodeName, call: Call, max: usize) -> Result<Bytes, TransportError> {
        let span = Span::of_call(node, &call.path);
        if call.strips > 0 {
            span.say("evernear.strips", Said::Number(call.strips));
        }
        let answered = self.call_in_time(node, call, max, &span).await;
        match &answered {
            Ok(body) => span.say("evernear.bytes", Said::Number(body.len() as u64)),
            // That a node has no such record is an answer.
            Err(TransportError::Refused { .. }) => {}
            Err(error) => span.fail(error.kind()),
        }
        answered
    }

    async fn call_in_time(
        &self,
        node: &NodeName,
        call: Call,
        max: usize,
        span: &Span,
    ) -> Result<Bytes, TransportError> {
        let length: usize = call.parts.iter().map(Bytes::len).sum();
        let _places = match length {
            0 => None,
            _ => Some(self.places(node).await?),
        };
        let deadline = call.deadline + time_of(length, self.bytes_per_second_min);
        timeout(deadline, self.call_unbounded(node, call, (length, max), span))
            .await
            .map_err(|_| TransportError::TimedOut { node: node.clone() })?
    }

    /// Waits for a place at a node, and then for one of all: who waits for a node that hangs takes none from others.
    /// The wait is as long as an append of a strip may take, so what goes before has come through.
    async fn places(&self, node: &NodeName) -> Result<(OwnedSemaphorePermit, SemaphorePermit<'_>), TransportError> {
        let at_node = {
            let mut nodes = self.bodies_to.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing goes to the others any more.
            nodes.retain(|_, places| Arc::strong_count(places) > 1);
            nodes.entry(node.clone()).or_insert_with(|| Arc::new(Semaphore::new(BODIES_TO_ONE_MAX))).clone()
        };
        let places = async move {
            let never_closed = "the places are never closed";
            let at_node = at_node.acquire_owned().await.expect(never_closed);
            (at_node, self.bodies.acquire().await.expect(never_closed))
        };
        let patience = UPLOAD_DEADLINE + time_of(STRIP_BYTES_MAX, self.bytes_per_second_min);
        timeout(patience, places).await.map_err(|_| TransportError::TimedOut { node: node.clone() })
    }

    async fn call_unbounded(
        &self,
        node: &NodeName,
        call: Call,
        (length, max): (usize, usize),
        span: &Span,
    ) -> Result<Bytes, TransportError> {
        // The length is known beforehand, so the node reserves memory for this body and not for the largest possible
        // one.
        let frames: Vec<_> = call.parts.into_iter().map(|part| Ok(Frame::data(part))).collect();
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("https://{node}{}", call.path))
            .header(CONTENT_LENGTH, length)
            .body(StreamBody::new(stream::iter(frames)))
            .expect("paths are made of names, numbers and hex digits");
        if let Some(within) = call.within {
            let milliseconds = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            request.headers_mut().insert(WITHIN_MS, milliseconds.into());
        }
        span.go_along(request.headers_mut());
        let response = self.carrier.carry(node, request).await?;
        self.clocks.hear(node, response.headers(), SystemTime::now());
        let status = response.status();
        span.say("http.response.status_code", Said::Number(status.as_u16().into()));
        let max = if status.is_success() { max } else { ERROR_BYTES_MAX };
        let body = gather(node, response.into_body(), max).await?;
        if status.is_success() {
            return Ok(body);
        }
        let reason = serde_json::from_slice::<ApiError>(&body).map_or_else(|_| status.to_string(), |error| error.error);
        let (node, status_code) = (node.clone(), status.as_u16());
        // A body that came too slowly (408) may come in time when it is sent again.
        let is_passing = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(if status.is_client_error() && !is_passing {
            TransportError::Refused { node, status: status_code, reason }
        } else {
            TransportError::Failed { node, status: status_code, reason }
        })
    }

    async fn put(&self, node: &NodeName, path: String, body: Bytes) -> Result<(), TransportError> {
        self.done(node, Call::new(Method::PUT, path).with(vec![body])).await
    }

    /// Makes a call whose answer has no useful body.
    async fn done(&self, node: &NodeName, call: Call) -> Result<(), TransportError> {
        self.call(node, call, JSON_BYTES_MAX).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(&self, node: &NodeName, call: Call) -> Result<T, TransportError> {
        let body = self.call(node, call, JSON_BYTES_MAX).await?;
        read_json(node, &body)
    }
}

/// Gathers the body of an answer, of at most `max` bytes. Each piece is copied and let go as it comes: the connection
/// reads the next ones into the same memory.
async fn gather(node: &NodeName, mut body: AnswerBody, max: usize) -> Result<Bytes, TransportError> {
    let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let mut gathered = Vec::with_capacity(announced.filter(|bytes| *bytes <= max).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(node, &error))?;
        let Some(piece) = frame.data_ref() else { continue };
        if gathered.len() + piece.len() > max {
            return Err(TransportError::Nonsense { node: node.clone(), reason: format!("more than {max} bytes") });
        }
        gathered.extend_from_slice(piece);
    }
    Ok(gathered.into())
}

/// Returns how long the slowest way takes for a body.
fn time_of(body_bytes: usize, bytes_per_second_min: u64) -> Duration {
    Duration::from_secs(body_bytes as u64 / bytes_per_second_min)
}

fn read_json<T: DeserializeOwned>(node: &NodeName, body: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(body)
        .map_err(|error| TransportError::Nonsense { node: node.clone(), reason: error.to_string() })
}

struct Call {
    method: Method,
    path: String,
    parts: Vec<Bytes>,
    deadline: Duration,
    /// After which an answer is of no use.
    within: Option<Duration>,
    /// How many strips are asked for.
    strips: u64,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, parts: Vec::new(), deadline: CALL_DEADLINE, strips: 0, within: None }
    }

    fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    fn with(self, parts: Vec<Bytes>) -> Self {
        Self { parts, ..self }
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError> {
        let ShardAsk { object, column, first, count } = ask;
        let path = format!("/v1/shards/{object}/{column}?first={first}&count={count}");
        // No more than was asked for: a node that sends more costs no memory.
        let max = shard_body_bytes_max(usize::try_from(count).unwrap_or(usize::MAX));
        // A viewer waits less, and a `Reader` gives a strip up that is of no use to it any more.
        let deadline = CALL_DEADLINE + time_of(max, self.shard_bytes_per_second_min);
        self.call(node, Call { deadline, strips: count, ..Call::get(path) }, max).await
    }

    async fn reach(&self, node: &NodeName) -> Result<(), TransportError> {
        self.carrier.reach(node).await
    }

    async fn strip(
        &self,
        neighbour: &NodeName,
        public: &Bytes,
        ask: ShardAsk,
        node: &NodeName,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        let path = StripPath { public: public.clone(), column: ask.column, stripe: ask.first, node: node.clone() };
        let call = Call { within: Some(within), ..Call::get(path.to_string()) };
        self.call(neighbour, call, shard_body_bytes_max(1)).await
    }

    async fn record(&self, node: &NodeName, locator: &Locator) -> Result<Option<Bytes>, TransportError> {
        self.find(node, Call::get(format!("/v1/records/{locator}")), RECORD_BYTES_MAX).await
    }

    async fn put_record(&self, node: &NodeName, locator: &Locator, record: Bytes) -> Result<(), TransportError> {
        self.put(node, format!("/v1/records/{locator}"), record).await
    }

    async fn put_lease(&self, node: &NodeName, locator: &Locator, envelope: Bytes) -> Result<(), TransportError> {
        self.put(node, format!("/v1/leases/{locator}"), envelope).await
    }

    async fn locators(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        after: Option<&Locator>,
    ) -> Result<LocatorPage, TransportError> {
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        self.json(node, Call::get(format!("/v1/records?owner={owner}{after}"))).await
    }

    async fn all_locators(&self, node: &NodeName, after: Option<&Locator>) -> Result<LocatorPage, TransportError> {
        let after = after.map_or_else(String::new, |after| format!("?after={after}"));
        self.json(node, Call::get(format!("/v1/records{after}"))).await
    }

    async fn create_upload(&self, node: &NodeName, column: usize, columns: usize) -> Result<String, TransportError> {
        let path = format!("/v1/uploads?column={column}&columns={columns}");
        let created: UploadCreated = self.json(node, Call::new(Method::POST, path)).await?;
        if !created.upload.is_empty()
            && created.upload.len() <= 64
            && created.upload.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            Ok(created.upload)
        } else {
            Err(TransportError::Nonsense { node: node.clone(), reason: "an upload id that is none".to_owned() })
        }
    }

    async fn append(&self, node: &NodeName, upload: &str, first: u64, cells: &[Cell]) -> Result<(), TransportError> {
        let path = format!("/v1/uploads/{upload}?first={first}");
        let call = Call::new(Method::PUT, path).with(frame_cells(cells));
        self.done(node, Call { deadline: UPLOAD_DEADLINE, ..call }).await
    }

    async fn upload_cells(&self, node: &NodeName, upload: &str) -> Result<u64, TransportError> {
        let call = Call { deadline: UPLOAD_DEADLINE, ..Call::get(format!("/v1/uploads/{upload}")) };
        self.json(node, call).await.map(|UploadHeld { cells }| cells)
    }

    async fn commit(&self, node: &NodeName, upload: &str, column: usize, public: Bytes) -> Result<(), TransportError> {
        let path = format!("/v1/uploads/{upload}/commit?column={column}");
        let bytes = PublicManifest::decode(public.clone()).map_or(0, |public| public.shard_bytes(column));
        let call = Call::new(Method::POST, path).with(vec![public]);
        let deadline = UPLOAD_DEADLINE + Duration::from_secs(bytes / SYNC_BYTES_PER_SECOND_MIN);
        self.done(node, Call { deadline, ..call }).await
    }

    async fn abort(&self, node: &NodeName, upload: &str) -> Result<(), TransportError> {
        self.done(node, Call::new(Method::DELETE, format!("/v1/uploads/{upload}"))).await
    }

    async fn policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
    ) -> Result<Option<Bytes>, TransportError> {
        self.find(node, Call::get(format!("/v1/policies/{owner}/{name}")), POLICY_MANIFEST_BYTES_MAX).await
    }

    async fn put_policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
        envelope: Bytes,
    ) -> Result<(), TransportError> {
        self.put(node, format!("/v1/policies/{owner}/{name}"), envelope).await
    }

    async fn purge(&self, node: &NodeName, envelope: Bytes) -> Result<(), TransportError> {
        self.done(node, Call::new(Method::POST, "/v1/purges".to_owned()).with(vec![envelope])).await
    }

    async fn blob(&self, node: &NodeName, id: &BlobId) -> Result<Option<Bytes>, TransportError> {
        self.find(node, Call::get(format!("/v1/blobs/{id}")), POLICY_COMPONENT_BYTES_MAX).await
    }

    async fn put_blob(&self, node: &NodeName, id: &BlobId, blob: Bytes) -> Result<(), TransportError> {
        self.put(node, format!("/v1/blobs/{id}"), blob).await
    }

    async fn note(&self, node: &NodeName, id: &NoteId) -> Result<Option<Note>, TransportError> {
        let body = self.find(node, Call::get(format!("/v1/notes/{id}")), NOTE_BODY_BYTES_MAX).await?;
        body.map(|body| read_json(node, &body)).transpose()
    }

    async fn put_note(&self, node: &NodeName, id: &NoteId, note: &Note) -> Result<bool, TransportError> {
        let body = serde_json::to_vec(note).expect("a note has only JSON types");
        match self.put(node, format!("/v1/notes/{id}"), body.into()).await {
            Ok(()) => Ok(true),
            Err(TransportError::Refused { status: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn nodes(&self, node: &NodeName) -> Result<Vec<NodeEntry>, TransportError> {
        let body = self.call(node, Call::get("/v1/nodes".to_owned()), NODES_BYTES_MAX).await?;
        let nodes: Vec<NodeEntry> = read_json(node, &body)?;
        match nodes.len() {
            0..=NODES_MAX => Ok(nodes),
            more => Err(TransportError::Nonsense { node: node.clone(), reason: format!("a list of {more} nodes") }),
        }
    }

    async fn announce(&self, node: &NodeName, entry: &NodeEntry) -> Result<(), TransportError> {
        let body = serde_json::to_vec(entry).expect("an entry has only JSON types");
        self.put(node, format!("/v1/nodes/{}", entry.name), body.into()).await
    }

    async fn refused(&self, node: &NodeName, after: u64) -> Result<Option<Bytes>, TransportError> {
        self.find(node, Call::get(format!("/v1/refused?after={after}")), REFUSED_BYTES_MAX).await
    }

    async fn put_refused(&self, node: &NodeName, list: Bytes) -> Result<(), TransportError> {
        self.put(node, "/v1/refused".to_owned(), list).await
    }

    async fn health(&self, node: &NodeName, locator: &Locator) -> Result<Option<ObjectHealth>, TransportError> {
        let call = Call::get(format!("/v1/records/{locator}/health"));
        let body = self.find(node, call, JSON_BYTES_MAX).await?;
        body.map(|body| read_json(node, &body)).transpose()
    }

    async fn repairs(&self, node: &NodeName) -> Result<RepairStatus, TransportError> {
        self.json(node, Call::get("/v1/repairs".to_owned())).await
    }

    async fn report(&self, node: &NodeName, ticket: &Ticket) -> Result<(), TransportError> {
        let body = serde_json::to_vec(ticket).expect("a ticket has only JSON types");
        self.put(node, "/v1/tickets".to_owned(), body.into()).await
    }

    async fn changes(&self, node: &NodeName, since: u64, wait_seconds: u32) -> Result<ChangePage, TransportError> {
        let mut call = Call::get(format!("/v1/changes?since={since}&wait={wait_seconds}"));
        call.deadline = Duration::from_secs(wait_seconds.into()) + WAIT_GRACE;
        self.json(node, call).await
    }

    fn clocks(&self) -> BTreeMap<NodeName, i64> {
        self.clocks.ahead()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use format::limits::{CELLS_MAX, LEASE_BYTES_MAX, SHARD_BODY_BYTES_MAX, UPLINK_BYTES_PER_SECOND_MIN};
    use http::Response;
    use tokio::{task::JoinHandle, time::Instant};

    use super::*;
    use crate::{
        carrier::{AnswerBody, CallBody},
        socket::PING_DEADLINE,
    };

    #[test]
    fn the_slowest_uplink_brings_all_bodies_that_go_at_once_in_their_time() {
        let uplink = UPLINK_BYTES_PER_SECOND_MIN * 9 / 10;
        for body in [1, 16 * 1024, LEASE_BYTES_MAX, RECORD_BYTES_MAX, STRIP_BYTES_MAX, CELLS_MAX * STRIP_BYTES_MAX] {
            let all = Duration::from_secs((body * BODIES_AT_ONCE_MAX) as u64 / uplink);
            // The least that either side gives on top is the 20 s of a call.
            assert!(all <= time_of(body, BODY_BYTES_PER_SECOND_MIN) + CALL_DEADLINE, "{body}: {all:?}");
        }
        // A ping waits behind a strip for each of them.
        assert!(PING_DEADLINE >= Duration::from_secs((STRIP_BYTES_MAX * BODIES_AT_ONCE_MAX) as u64 / uplink));
    }

    /// A node that never answers, and counts the calls that wait for it.
    #[derive(Clone, Default)]
    struct Silent(Arc<AtomicUsize>);

    #[async_trait]
    impl Carrier for Silent {
        async fn carry(&self, _: &NodeName, _: Request<CallBody>) -> Result<Response<AnswerBody>, TransportError> {
            self.0.fetch_add(1, Relaxed);
            std::future::pending().await
        }
    }

    fn node(number: usize) -> NodeName {
        format!("o{number}").parse().unwrap()
    }

    /// Begins a call whose body has so many seconds over the slowest way.
    fn put(transport: &Arc<HttpTransport>, node: NodeName, seconds: u64) -> JoinHandle<Result<(), TransportError>> {
        let body = vec![0; usize::try_from(seconds * BODY_BYTES_PER_SECOND_MIN).unwrap()];
        let transport = transport.clone();
        tokio::spawn(async move { transport.put(&node, "/".into(), body.into()).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_a_body_waits_for_its_turn_and_its_deadline_begins_then() {
        let silent = Silent::default();
        let (transport, node_1) = (Arc::new(HttpTransport::over(silent.clone())), node(1));
        let began = Instant::now();
        let puts: Vec<_> = (0..=BODIES_AT_ONCE_MAX).map(|number| put(&transport, node(number % 5), 10)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(silent.0.load(Relaxed), BODIES_AT_ONCE_MAX);
        // What has no body waits for nobody.
        assert!(timeout(Duration::from_secs(1), transport.nodes(&node_1)).await.is_err());
        assert_eq!(silent.0.load(Relaxed), BODIES_AT_ONCE_MAX + 1);
        for put in puts {
            assert!(matches!(put.await.unwrap(), Err(TransportError::TimedOut { .. })));
        }
        assert_eq!(began.elapsed().as_secs(), 2 * 30, "10 s for the body, each after the other");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_hangs_takes_no_place_from_another_and_nobody_waits_for_it_for_ever() {
        let silent = Silent::default();
        let transport = Arc::new(HttpTransport::over(silent.clone()));
        let mut hung: Vec<_> = (0..=BODIES_AT_ONCE_MAX).map(|_| put(&transport, node(1), 1000)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(silent.0.load(Relaxed), BODIES_TO_ONE_MAX);
        let other = put(&transport, node(2), 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(silent.0.load(Relaxed), BODIES_TO_ONE_MAX + 1, "another node has its places");
        for waiting in hung.split_off(BODIES_TO_ONE_MAX) {
            assert!(matches!(waiting.await.unwrap(), Err(TransportError::TimedOut { .. })));
        }
        assert_eq!(silent.0.load(Relaxed), BODIES_TO_ONE_MAX + 1, "they waited, and were never sent");
        assert!(hung.iter().all(|hung| !hung.is_finished()));
        assert!(other.await.unwrap().is_err());
        let _last = put(&transport, node(3), 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let nodes: Vec<_> = transport.bodies_to.lock().unwrap().keys().cloned().collect();
        assert!(nodes.len() == 2 && !nodes.contains(&node(2)), "no more are remembered than hold places: {nodes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_strip_has_the_time_of_the_slowest_way_and_a_repair_waits_for_no_source() {
        let ask = |count| ShardAsk { object: ObjectId([1; 32]), column: 0, first: 0, count };
        let began = Instant::now();
        assert!(HttpTransport::over(Silent::default()).read_shard(&node(1), ask(1)).await.is_err());
        assert!(began.elapsed() >= CALL_DEADLINE + time_of(STRIP_BYTES_MAX, BODY_BYTES_PER_SECOND_MIN));
        let began = Instant::now();
        let origin = HttpTransport::over(Silent::default()).between_origins();
        assert!(origin.read_shard(&node(1), ask(64)).await.is_err());
        assert_eq!(began.elapsed().as_secs(), CALL_DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_leaves_another_that_hangs_within_minutes() {
        let transport = HttpTransport::over(Silent::default()).between_origins();
        let began = Instant::now();
        let body = vec![0; SHARD_BODY_BYTES_MAX].into();
        assert!(matches!(transport.put(&node(1), "/".into(), body).await, Err(TransportError::TimedOut { .. })));
        assert!(began.elapsed() < Duration::from_secs(600), "{:?}", began.elapsed());
    }
}
