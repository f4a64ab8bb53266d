//! The network of a simulation: distance, jitter, loss, cuts, and nodes that lie. It carries the real HTTP calls of the
//! real transport to the real service of a node, without TCP and TLS.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use axum::{body::Body, http::StatusCode};
use bytes::Bytes;
use client::{AnswerBody, CallBody, Carrier, TransportError};
use format::{NodeName, Place, wire::Role};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use tokio::time::sleep;

use crate::{
    trace::lock,
    world::{Host, World},
};

/// What a connection needs to be given up, when nothing answers.
const CONNECT: Duration = Duration::from_secs(3);
/// One way, for each kilometre; and what every call takes.
const PER_KILOMETRE: Duration = Duration::from_nanos(6500);
const AT_LEAST: Duration = Duration::from_micros(800);
/// A link of so many bytes in a millisecond.
const BYTES_PER_MILLISECOND: usize = 50_000;

/// How a node lies about shards and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It answers with noise of the right length.
    Garbage,
    /// It flips one bit.
    Flip,
    /// It answers with another shard than was asked for.
    Swapped,
    /// It answers with the first record that it ever gave.
    Stale,
    /// It answers rightly and seconds late.
    Drip,
    /// It takes shards and has none when asked.
    Denies,
}

impl Lie {
    pub(crate) const ALL: [Self; 6] = [Self::Garbage, Self::Flip, Self::Swapped, Self::Stale, Self::Drip, Self::Denies];
}

/// What is wrong with the network now.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Of a thousand messages so many come late by a retransmission, and a fifth as many never.
    pub(crate) lost_per_mille: u32,
    /// Jitter of a message, at most.
    pub(crate) jitter: Duration,
    /// Zones that nobody outside reaches.
    pub(crate) cut: BTreeSet<String>,
    pub(crate) liars: BTreeMap<NodeName, Lie>,
    /// What liars answered before, by node and path.
    pub(crate) past: BTreeMap<(NodeName, String), Bytes>,
    /// Wrong answers of shards, by node and reader.
    pub(crate) wrong: BTreeMap<(NodeName, NodeName), u32>,
}

/// The link of one process to all nodes.
pub(crate) struct Link {
    pub(crate) world: Arc<World>,
    pub(crate) name: NodeName,
    pub(crate) role: Role,
    pub(crate) place: Place,
}

/// What becomes of one message.
enum Way {
    After(Duration),
    Never,
}

impl Link {
    fn way(&self, to: &Place, bytes: usize) -> Way {
        let weather = lock(&self.world.weather);
        let is_cut = |zone: &String| weather.cut.contains(zone);
        let cut = self.place.zone != to.zone && (is_cut(&self.place.zone) || is_cut(&to.zone));
        let (loss, jitter) = (weather.lost_per_mille, weather.jitter);
        drop(weather);
        if cut {
            return Way::Never;
        }
        let distance = PER_KILOMETRE.mul_f64(self.place.kilometres_to(to));
        let transfer = Duration::from_micros((bytes * 1000 / BYTES_PER_MILLISECOND) as u64);
        self.world.draw(|dice| {
            let fate = dice.u32(0..5000);
            if fate < loss {
                return Way::Never;
            }
            let again = if fate < loss * 5 { Duration::from_millis(dice.u64(200..800)) } else { Duration::ZERO };
            Way::After(AT_LEAST + distance + transfer + again + jitter.mul_f64(dice.f64()))
        })
    }

    /// Brings the call to the service of the node, unless it goes down on the way.
    async fn at_node(&self, host: &Host, call: Request<CallBody>) -> Result<Response<Bytes>, TransportError> {
        let refused = |reason: &str| TransportError::Unreachable { node: host.name.clone(), reason: reason.to_owned() };
        let (running, power) = host.service().ok_or_else(|| refused("connection refused"))?;
        let answered = async {
            let answer = running.answer(self.name.clone(), self.role, call.map(Body::new)).await;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|_| refused("the answer was cut"))?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::select! {
            biased;
            () = power.cancelled() => Err(refused("connection reset")),
            answered = answered => answered,
        }
    }

    /// What a liar makes of its answer.
    async fn lie(&self, node: &NodeName, path: &str, mut answer: Response<Bytes>) -> Response<Bytes> {
        let is_shard = path.starts_with("/v1/shards/");
        let Some(lie) = lock(&self.world.weather).liars.get(node).copied() else { return answer };
        if answer.status() != StatusCode::OK || !(is_shard || path.starts_with("/v1/records/")) {
            return answer;
        }
        let body = answer.body().clone();
        let key = (node.clone(), path.to_owned());
        let told = match lie {
            Lie::Garbage => {
                let mut noise = vec![0; body.len()];
                self.world.draw(|dice| dice.fill(&mut noise));
                Some(noise.into())
            }
            Lie::Flip => {
                let mut flipped = body.to_vec();
                let bit = self.world.draw(|dice| dice.usize(0..body.len() * 8));
                flipped[bit / 8] ^= 1 << (bit % 8);
                Some(flipped.into())
            }
            Lie::Swapped if is_shard => {
                let mut weather = lock(&self.world.weather);
                let other =
                    weather.past.iter().find(|((at, of), _)| at == node && *of != path && of.contains("shards"));
                let other = other.map(|(_, other)| other.clone());
                weather.past.insert(key, body.clone());
                other
            }
            Lie::Stale if !is_shard => Some(lock(&self.world.weather).past.entry(key).or_insert(body.clone()).clone()),
            Lie::Swapped | Lie::Stale => None,
            Lie::Drip => {
                let late = self.world.draw(|dice| dice.u64(4_000..18_000));
                sleep(Duration::from_millis(late)).await;
                None
            }
            Lie::Denies if is_shard => {
                *answer.status_mut() = StatusCode::NOT_FOUND;
                Some(Bytes::new())
            }
            Lie::Denies => None,
        };
        if let Some(told) = told.filter(|told| *told != body) {
            if is_shard {
                *lock(&self.world.weather).wrong.entry((node.clone(), self.name.clone())).or_default() += 1;
            }
            *answer.body_mut() = told;
        }
        answer
    }

    async fn exchange(&self, node: &NodeName, call: Request<CallBody>) -> Result<Response<Bytes>, TransportError> {
        let host = self.world.find(node).ok_or_else(|| TransportError::Unknown { node: node.clone() })?;
        let there = &host.place;
        let path = call.uri().path().to_owned();
        let Way::After(time) = self.way(there, 1000) else {
            sleep(CONNECT).await;
            return Err(TransportError::TimedOut { node: node.clone() });
        };
        sleep(time).await;
        let answer = self.at_node(host, call).await?;
        let answer = self.lie(node, &path, answer).await;
        match self.way(there, answer.body().len()) {
            Way::After(time) => sleep(time).await,
            Way::Never => {
                sleep(CONNECT).await;
                return Err(TransportError::Unreachable { node: node.clone(), reason: "connection lost".to_owned() });
            }
        }
        Ok(answer)
    }
}

#[async_trait]
impl Carrier for Link {
    async fn carry(&self, node: &NodeName, call: Request<CallBody>) -> Result<Response<AnswerBody>, TransportError> {
        let what = format!("{}>{node} {} {}", self.name, call.method(), shorten(call.uri().path()));
        let answer = self.exchange(node, call).await;
        match &answer {
            Ok(answer) => self.world.trace.note(format_args!("{what} {}", answer.status().as_u16())),
            Err(error) => self.world.trace.note(format_args!("{what} {error}")),
        }
        Ok(answer?.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()))
    }
}

/// A path without what is drawn outside of the simulation, the names of upload sessions, and with short ids.
fn shorten(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let short = |at: usize| match parts[at] {
        _ if at > 0 && parts[at - 1] == "uploads" => "*",
        id if id.len() > 12 => &id[..8],
        part => part,
    };
    (0..parts.len()).map(short).collect::<Vec<_>>().join("/")
}
