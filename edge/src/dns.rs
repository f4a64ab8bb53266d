//! The DNS door: authoritative answers for one zone over UDP (hickory-server, our own handler) and TCP ([`tcp`]).
//!
//! question -> [`question`] (label checked, no look-up for wrong ones) -> [`subnet`] (where the viewer is) ->
//! [`answer`]. Left to a later version: DNSSEC, cookies, response rate limiting.

mod answer;
mod question;
mod steer;
mod steering;
mod subnet;
mod tcp;

use std::{io, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use hickory_net::runtime::Time;
use hickory_proto::{
    op::{Edns, HeaderCounts, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, LowerName, RecordType},
};
use hickory_server::{
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};

pub(crate) use self::answer::ZoneFacts;
use self::{answer::Answer, question::Question, subnet::Viewer};
use crate::{listen::sockets::Sockets, metrics::DnsLabels, node::Node};

/// Largest UDP answer: what fits the least IPv6 path without fragments, as DNS Flag Day 2020 agreed.
const UDP_BYTES_MAX: u16 = 1232;
const UDP_BYTES_MIN: u16 = 512;

/// The listening sockets of the door, bound but not yet answering.
pub(crate) struct DnsSockets {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
    /// The address bound, the same for both.
    pub(crate) address: SocketAddr,
}

impl DnsSockets {
    /// Binds UDP and TCP on one port, or takes those handed on; port 0 takes any that both can have.
    pub(crate) async fn bind(handed: &mut Sockets, listen: SocketAddr) -> io::Result<Self> {
        /// A port free for TCP may be taken for UDP; so often in a row it is not.
        const TRIES_MAX: usize = 16;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES_MAX {
            let tcp = handed.listen(listen).await?;
            let address = tcp.local_addr()?;
            match handed.bind(address).await {
                Ok(udp) => return Ok(Self { udp, tcp, address }),
                Err(error) if listen.port() != 0 => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Starts answering over UDP and returns it, and what answers over TCP until the shutdown.
    pub(crate) fn serve(
        self,
        node: Arc<Node>,
        zone: ZoneFacts,
        shutdown: watch::Receiver<bool>,
    ) -> (Server<DnsDoor>, impl Future<Output = ()> + Send) {
        let door = DnsDoor { node, zone: Arc::new(zone) };
        let mut server = Server::new(door.clone());
        server.register_socket(self.udp);
        (server, tcp::serve(door, self.tcp, shutdown))
    }
}

/// Answers questions.
#[derive(Clone)]
pub(crate) struct DnsDoor {
    node: Arc<Node>,
    zone: Arc<ZoneFacts>,
}

impl DnsDoor {
    async fn decide(&self, request: &Request, viewer: &Viewer) -> Answer {
        if request.metadata.op_code != OpCode::Query {
            return Answer::refusal(ResponseCode::NotImp);
        }
        //= https://www.rfc-editor.org/rfc/rfc6891#section-6.1.3
        //# If a responder does not implement the VERSION level of the request, then it MUST respond with RCODE=BADVERS.
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Answer::refusal(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else { return Answer::refusal(ResponseCode::FormErr) };
        if info.query.query_class() != DNSClass::IN {
            return Answer::refusal(ResponseCode::Refused);
        }
        let question = Question::read(info.query.name(), &self.zone);
        answer::decide(&self.node, &self.zone, question, info.query.query_type(), viewer).await
    }
}

#[async_trait]
impl RequestHandler for DnsDoor {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let viewer = Viewer::of(request.edns.as_ref(), request.src().ip(), &self.node.places);
        let answer = self.decide(request, &viewer).await;

        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.rcode;
        metadata.authoritative = answer.authoritative;
        metadata.recursion_available = false;
        let edns = request.edns.as_ref().map(|theirs| {
            let mut ours = Edns::new();
            ours.set_version(0);
            ours.set_max_payload(theirs.max_payload().clamp(UDP_BYTES_MIN, UDP_BYTES_MAX));
            if let Some(subnet) = viewer.echo(answer.depends_on_viewer) {
                ours.options_mut().insert(subnet);
            }
            ours
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let labels = DnsLabels { kind: kind_of(request), rcode: rcode_name(answer.rcode) };
        self.node.metrics.dns_answers.get_or_create(&labels).inc();
        let message = builder.build(metadata, &answer.answers, &answer.authority, &[], &[]);
        match to.send_response(message).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "answer not sent");
                ResponseInfo::from(hickory_proto::op::Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

fn kind_of(request: &Request) -> &'static str {
    match request.request_info().map(|info| info.query.query_type()) {
        Ok(RecordType::A) => "A",
        Ok(RecordType::AAAA) => "AAAA",
        Ok(RecordType::HTTPS) => "HTTPS",
        Ok(RecordType::TXT) => "TXT",
        Ok(RecordType::NS) => "NS",
        Ok(RecordType::SOA) => "SOA",
        Ok(RecordType::ANY) => "ANY",
        _ => "other",
    }
}

fn rcode_name(rcode: ResponseCode) -> &'static str {
    match rcode {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::BADVERS => "BADVERS",
        _ => "other",
    }
}

/// The labels of a name that stand before `zone`, or none when it is not in it.
fn before<'n>(name: &'n LowerName, zone: &LowerName) -> Option<Vec<&'n [u8]>> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let own = zone.iter().count();
    zone.zone_of(name).then(|| labels[..labels.len() - own].to_vec())
}
