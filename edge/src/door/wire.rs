//! A connection of HTTP/1.1 as bytes: what is written to it leaves in as few writes as it can, and by a deadline.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
    iter,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use http::{HeaderMap, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;

use super::limits::{LINGER, REST_DEADLINE, patience};
use crate::answer::headers;

/// A content of so many bytes is copied behind its head, which costs less than to tell the system of two pieces.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Held of what comes behind the request that is answered, whether it was read with that or while its answer was made.
const AHEAD_BYTES_MAX: usize = 4 * 1024;
/// Read at a time of what nobody wants.
const REST_BYTES: usize = 16 * 1024;

/// The viewer left, or takes too little.
#[derive(Debug)]
pub(super) struct Left;

/// A connection as bytes.
#[derive(Debug)]
pub(super) enum Wire {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Whether ALPN said that it is to speak HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self, Self::Secure(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Ends the connection in order, and waits for no viewer who takes nothing of it.
    //= https://www.rfc-editor.org/rfc/rfc9112#section-9.6
    //# To avoid the TCP reset problem, servers typically close a connection in stages.
    pub(super) async fn end(&mut self) {
        let _ = timeout(LINGER, self.shutdown()).await;
        // What the viewer still sends is read, or the system would tell it of a fault and it could lose the answer.
        let rest = async {
            let mut rest = vec![0; REST_BYTES];
            while matches!(timeout(LINGER, self.read(&mut rest)).await, Ok(Ok(1..))) {}
        };
        let _ = timeout(REST_DEADLINE, rest).await;
    }

    /// Returns the connection below.
    pub(super) fn below(&self) -> &TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Secure(stream) => stream.get_ref().0,
        }
    }
}

/// What was read of a connection that is not for this codec.
pub(super) struct Rest {
    pub(super) wire: Wire,
    pub(super) read: Vec<u8>,
}

/// A connection that speaks HTTP/1.1.
pub(super) struct Plain {
    pub(super) wire: Wire,
    /// The head of an answer, which waits for what goes with it.
    pub(super) out: Vec<u8>,
    /// What the viewer sent while its answer was made: the beginning of its next requests.
    pub(super) ahead: Vec<u8>,
    /// So many bytes that were read with the request that is answered lie behind it.
    pub(super) behind: usize,
    /// Bytes that the connection took of the content that was written last.
    pub(super) went: u64,
    /// Whether the connection ends after this answer.
    pub(super) closes: bool,
    /// Whether the content goes out in chunks, because its length is not known.
    chunked: bool,
    /// The last bytes, however few, may take so long.
    deadline: Duration,
    pub(super) timer: Timer,
}

impl Plain {
    pub(super) fn new(wire: Wire, deadline: Duration) -> Self {
        let (out, ahead, timer) = (Vec::new(), Vec::new(), Timer::new());
        Self { wire, out, ahead, behind: 0, went: 0, closes: false, chunked: false, deadline, timer }
    }

    /// Takes the head of an answer, which leaves with the first piece of its content.
    pub(super) fn head(&mut self, status: StatusCode, fields: &HeaderMap) {
        headers::write_head(&mut self.out, status, fields);
        self.chunked = fields.contains_key(header::TRANSFER_ENCODING);
        self.end_head();
    }

    /// Ends a head.
    pub(super) fn end_head(&mut self) {
        if self.closes {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes a piece of content.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), Left> {
        if !self.chunked {
            return self.flush(&[piece]).await;
        }
        // A chunk without a byte would be the last one.
        if piece.is_empty() {
            return Ok(());
        }
        self.out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        self.flush(&[piece, Bytes::from_static(b"\r\n")]).await
    }

    /// Writes what ends the content, or a head that nothing follows.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn end_answer(&mut self) -> Result<(), Left> {
        if std::mem::take(&mut self.chunked) {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        if self.out.is_empty() { Ok(()) } else { self.flush(&[]).await }
    }

    /// Has the connection end after this answer.
    pub(super) fn close_after(&mut self) {
        self.closes = true;
    }

    /// Writes what waits, and `content` with it. A viewer has its time for the last bytes, however few, and more for
    /// many.
    pub(super) async fn flush(&mut self, content: &[Bytes]) -> Result<(), Left> {
        let Self { wire, out, went, timer, deadline, .. } = self;
        let head = out.len() as u64;
        let mut all = content.iter().map(Bytes::len).sum::<usize>();
        let (mut one, mut many);
        let mut rest = if all <= COPIED_BYTES_MAX {
            content.iter().for_each(|piece| out.extend_from_slice(piece));
            one = [IoSlice::new(out)];
            &mut one[..]
        } else {
            let pieces = iter::once(&out[..]).chain(content.iter().map(|piece| &piece[..]));
            many = pieces.filter(|piece| !piece.is_empty()).map(IoSlice::new).collect::<Vec<_>>();
            &mut many[..]
        };
        all = rest.iter().map(|slice| slice.len()).sum();
        *went = 0;
        if all == 0 {
            return Ok(());
        }
        let (mut waits, mut taken, patience) = (false, 0, patience(*deadline, all));
        let written = poll_fn(|cx| {
            while !rest.is_empty() {
                match Pin::new(&mut *wire).poll_write_vectored(cx, rest) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Left)),
                    Poll::Ready(Ok(sent)) => {
                        taken += sent as u64;
                        IoSlice::advance_slices(&mut rest, sent);
                    }
                    Poll::Pending => return wait(timer, &mut waits, patience, cx),
                }
            }
            match Pin::new(&mut *wire).poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|_| Left)),
                Poll::Pending => wait(timer, &mut waits, patience, cx),
            }
        });
        let written = written.await;
        *went = taken.saturating_sub(head);
        written?;
        out.clear();
        Ok(())
    }

    /// Returns when the viewer has closed its side, as one does that leaves. What it asks meanwhile is kept for its
    /// turn; of one that asks for much it is not heard before something is written to it. Cancel safe.
    pub(super) async fn gone(&mut self) {
        while self.behind + self.ahead.len() < AHEAD_BYTES_MAX {
            let room = AHEAD_BYTES_MAX - self.behind - self.ahead.len();
            if !matches!(self.wire.read_buf(&mut (&mut self.ahead).limit(room)).await, Ok(1..)) {
                return;
            }
        }
        pending::<()>().await;
    }

    /// Ends the connection in order.
    pub(super) async fn end(mut self) {
        self.wire.end().await;
    }
}

/// Waits for the viewer to take more.
fn wait(timer: &mut Timer, waits: &mut bool, patience: Duration, cx: &mut Context<'_>) -> Poll<Result<(), Left>> {
    if !std::mem::replace(waits, true) {
        timer.set(Instant::now() + patience);
    }
    timer.poll(cx).map(|()| Err(Left))
}

/// One deadline at a time, moved without a word to the runtime as long as it only moves away.
pub(super) struct Timer {
    until: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(super) fn new() -> Self {
        let until = Instant::now();
        Self { until, sleep: Box::pin(sleep_until(until)) }
    }

    pub(super) fn set(&mut self, until: impl Into<Instant>) {
        self.until = until.into();
        if self.until < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.until);
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.until <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.until);
        }
    }

    pub(super) async fn rings(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return self.poll_write(cx, piece);
        }
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{any::Any, sync::Arc};

    use rcgen::{CertificateParams, KeyPair};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer, version::TLS13};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const NAME: &str = "a.example";
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Connects to a viewer who sends nothing and takes nothing, and returns what keeps it there, too.
    async fn stuck(is_secure: bool) -> (Plain, Box<dyn Any>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (ours, theirs) = (ours.unwrap().0, theirs.unwrap());
        if !is_secure {
            return (Plain::new(Wire::Clear(ours), DEADLINE), Box::new(theirs));
        }
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let (ours, theirs) = tokio::join!(
            TlsAcceptor::from(Arc::new(server)).accept(ours),
            TlsConnector::from(Arc::new(client)).connect(NAME.try_into().unwrap(), theirs)
        );
        (Plain::new(Wire::Secure(Box::new(ours.unwrap())), DEADLINE), Box::new(theirs.unwrap()))
    }

    #[tokio::test]
    async fn who_closes_has_left_and_what_it_asked_before_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for asked in [0, 18, AHEAD_BYTES_MAX - 1, AHEAD_BYTES_MAX, AHEAD_BYTES_MAX + 1] {
            let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
            let (mut plain, mut theirs) = (Plain::new(Wire::Clear(ours.unwrap().0), DEADLINE), theirs.unwrap());
            theirs.write_all(&vec![7; asked]).await.unwrap();
            let waits = timeout(Duration::from_millis(50), plain.gone()).await;
            assert!(waits.is_err(), "it is there");
            drop(theirs);
            let left = timeout(Duration::from_millis(200), plain.gone()).await.is_ok();
            assert_eq!((left, plain.ahead.len()), (asked < AHEAD_BYTES_MAX, asked.min(AHEAD_BYTES_MAX)));
        }
    }

    #[tokio::test]
    async fn what_was_read_behind_a_request_counts_with_what_is_read_while_it_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for behind in [1, AHEAD_BYTES_MAX - 1, AHEAD_BYTES_MAX, 2 * AHEAD_BYTES_MAX] {
            let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
            let (mut plain, mut theirs) = (Plain::new(Wire::Clear(ours.unwrap().0), DEADLINE), theirs.unwrap());
            plain.behind = behind;
            theirs.write_all(&[7; 2 * AHEAD_BYTES_MAX]).await.unwrap();
            assert!(timeout(Duration::from_millis(50), plain.gone()).await.is_err(), "it is there");
            assert_eq!(plain.ahead.len(), AHEAD_BYTES_MAX.saturating_sub(behind), "behind {behind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_gone_by_a_deadline_and_nobody_waits_for_its_end() {
        for is_secure in [false, true] {
            let (mut plain, viewer) = stuck(is_secure).await;
            let (content, begun) = (Bytes::from(vec![7; 16 << 20]), Instant::now());
            assert!(plain.flush(&[content]).await.is_err());
            assert_eq!(begun.elapsed().as_secs(), 30 + 8192, "2 KiB a second, and half a minute for the last");
            assert!((1..16 << 20).contains(&plain.went), "what the system took is counted: {}", plain.went);
            // A head alone, as of a HEAD.
            let begun = Instant::now();
            plain.head(StatusCode::NOT_MODIFIED, &HeaderMap::new());
            assert!(plain.end_answer().await.is_err());
            assert_eq!(begun.elapsed().as_secs(), 30);
            let begun = Instant::now();
            plain.end().await;
            assert!(begun.elapsed() <= 2 * LINGER, "{:?}", begun.elapsed());
            drop(viewer);
        }
    }
}
