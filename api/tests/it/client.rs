//! A caller of the API.

use std::net::SocketAddr;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// A caller, with a token or without.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    token: Option<String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: Option<String>) -> Self {
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), address, token }
    }

    /// Begins a request.
    pub(crate) fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("http://{}{path}", self.address));
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub(crate) async fn put(&self, name: &str, bytes: impl Into<reqwest::Body>) -> Answer {
        send(self.ask("PUT", &format!("/files/{name}")).body(bytes)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.ask("GET", path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.ask("DELETE", path)).await
    }
}

/// Sends a request and reads its answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

async fn read(answer: Response) -> Answer {
    let (status, fields) = (answer.status().as_u16(), answer.headers().clone());
    let bytes = answer.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status, fields, body }
}

impl Answer {
    /// Returns a text of the value.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.body["value"][key].as_str().unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }

    /// Returns the message of an error.
    pub(crate) fn message(&self) -> &str {
        assert_eq!(self.body["ok"], false, "{self:?}");
        assert!(self.body["error"]["code"].is_string(), "{self:?}");
        self.body["error"]["message"].as_str().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
