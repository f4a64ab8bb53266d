//! DNS over TCP (RFC 7766), accepted here and not by hickory, which takes as many connections as come.
//!
//! Keeps true: no more connections at once, in all and from one address, than configured; one question at a time on
//! each; a connection that sends none, or takes too long to send it or to read its answer, is closed.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use hickory_net::{NetError, runtime::TokioTime, xfer::Protocol};
use hickory_proto::{op::MessageType, rr::Record, serialize::binary::BinEncoder};
use hickory_server::{
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponse,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::DnsDoor;
use crate::listen::{
    accept::{Accepted, Acceptor},
    connections::Connections,
};

/// Answers until the shutdown, then lets the answers under way end; dropping it cuts them.
pub(super) async fn serve(door: DnsDoor, socket: TcpListener, shutdown: watch::Receiver<bool>) {
    let (config, refused) = (&door.node.config.dns, door.node.metrics.dns_connections_refused.clone());
    let connections = Connections::new(config.connections_max, config.connections_per_address_max, refused);
    let acceptor = Acceptor::new(socket, connections, door.node.metrics.accept_faults.clone(), shutdown.clone());
    let serve = |Accepted { stream, peer, admitted }| {
        let (door, shutdown) = (door.clone(), shutdown.clone());
        async move {
            // What went wrong is the other side's to know: it sees the connection closed.
            let _ = converse(&door, stream, peer, shutdown).await;
            drop(admitted);
        }
    };
    acceptor.each(serve).await;
}

async fn converse(
    door: &DnsDoor,
    mut stream: TcpStream,
    peer: SocketAddr,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    //= https://www.rfc-editor.org/rfc/rfc7766#section-6.2.3
    //# It is RECOMMENDED that the default server application-level idle period be on the order of seconds
    let idle = door.node.config.dns.idle();
    loop {
        let question = tokio::select! {
            question = timeout(idle, read(&mut stream)) => question??,
            _ = shutdown.wait_for(|down| *down) => return Ok(()),
        };
        let Ok(request) = Request::from_bytes(question, peer, Protocol::Tcp) else { return Ok(()) };
        if request.metadata.message_type == MessageType::Response {
            return Ok(());
        }
        let answer = Encoded::default();
        door.handle_request::<_, TokioTime>(&request, answer.clone()).await;
        let framed = answer.take();
        if framed.is_empty() {
            return Ok(());
        }
        timeout(idle, stream.write_all(&framed)).await??;
    }
}

//= https://www.rfc-editor.org/rfc/rfc1035#section-4.2.2
//# The message is prefixed with a two byte length field which gives the message length, excluding the two byte length field.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Takes an answer as it goes over TCP: its length, then itself.
#[derive(Clone, Default)]
struct Encoded(Arc<Mutex<Vec<u8>>>);

impl Encoded {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ResponseHandler for Encoded {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut message = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut message);
        encoder.set_max_size(u16::MAX);
        let sent = response.destructive_emit(&mut encoder)?;
        let length = u16::try_from(message.len()).map_err(|_| NetError::from("an answer too long for DNS"))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = [&length.to_be_bytes()[..], &message].concat();
        Ok(sent)
    }
}
