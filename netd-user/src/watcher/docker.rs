//! The API of a Docker engine on its unix socket, as far as names need it: four questions, all `GET`.
//!
//! Laws: nothing is ever changed; paths carry no version, so that the engine answers in its own; each
//! question is a connection of its own with a time-out and a longest answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::words::{DescribedContainer, Event, ListedContainer, ListedNetwork};
use super::{Engine, EngineError, Events, Happening};
use crate::model::{ContainerId, NetworkId};
use crate::roster::{Container, NetworkCard};

/// How long an answer may take; an engine that starts a container lets nobody ask about it meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer: a thousand containers with all their labels are some megabytes.
const ANSWER_MAX: usize = 32 << 20;
/// Longest event.
const EVENT_MAX: usize = 1 << 20;
/// Most networks, and most containers.
const OBJECTS_MAX: usize = 20_000;

/// `{"type":["container","network"],"event":["create","start","die","destroy","rename","connect",
/// "disconnect","remove"]}`, escaped.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%2C%22event%22%3A%5B%22create%22%2C%22start%22%2C%22die%22%2C%22destroy%22%2C%22rename%22%2C%22connect%22%2C%22disconnect%22%2C%22remove%22%5D%7D";

/// The engine behind a socket.
#[derive(Clone, Debug)]
pub struct DockerApi {
    socket: PathBuf,
}

/// A connection, which ends with the value.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl DockerApi {
    /// At `socket`.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn open(&self, path: &str) -> Result<(Response<Incoming>, Connection), EngineError> {
        let unreachable = |source| EngineError::Unreachable { socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(garbled)?;
        // A connection that breaks shows where its answer is read.
        let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
        let request = Request::get(path).header("host", "docker").body(Empty::<Bytes>::new());
        let response = sender.send_request(request.map_err(garbled)?).await.map_err(garbled)?;
        match response.status().as_u16() {
            200 => Ok((response, connection)),
            status => Err(EngineError::Refused(status)),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let asked = async {
            let (response, _connection) = self.open(path).await?;
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| match error.downcast_ref() {
                Some(http_body_util::LengthLimitError { .. }) => EngineError::Long(ANSWER_MAX),
                None => garbled(error),
            })?;
            serde_json::from_slice(&body.to_bytes()).map_err(garbled)
        };
        timeout(PATIENCE, asked).await.map_err(|_| EngineError::Late(PATIENCE))?
    }
}

impl Engine for DockerApi {
    type Events = DockerEvents;

    async fn events(&self) -> Result<DockerEvents, EngineError> {
        let opened = timeout(PATIENCE, self.open(EVENTS)).await;
        let (response, connection) = opened.map_err(|_| EngineError::Late(PATIENCE))??;
        Ok(DockerEvents { body: response.into_body(), unread: Vec::new(), _connection: connection })
    }

    async fn networks(&self) -> Result<BTreeMap<NetworkId, NetworkCard>, EngineError> {
        let listed: Vec<ListedNetwork> = self.ask("/networks").await?;
        Ok(few(listed)?.into_iter().filter_map(ListedNetwork::read).collect())
    }

    async fn containers(&self) -> Result<Vec<Container>, EngineError> {
        let listed: Vec<ListedContainer> = self.ask("/containers/json?all=true").await?;
        Ok(few(listed)?.into_iter().filter_map(ListedContainer::read).collect())
    }

    async fn container(&self, id: ContainerId) -> Result<Option<Container>, EngineError> {
        match self.ask::<DescribedContainer>(&format!("/containers/{id}/json")).await {
            Ok(described) => Ok(described.read()),
            Err(EngineError::Refused(404)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The stream of what happens: an object a line.
pub struct DockerEvents {
    body: Incoming,
    unread: Vec<u8>,
    _connection: Connection,
}

impl Events for DockerEvents {
    async fn next(&mut self) -> Result<Happening, EngineError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let event: Event = serde_json::from_slice(&line).map_err(garbled)?;
                return Ok(event.read());
            }
            let frame = self.body.frame().await.ok_or(EngineError::Ended)?.map_err(garbled)?;
            self.unread.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            if self.unread.len() > EVENT_MAX {
                return Err(EngineError::Long(EVENT_MAX));
            }
        }
    }
}

fn few<T>(listed: Vec<T>) -> Result<Vec<T>, EngineError> {
    if listed.len() > OBJECTS_MAX {
        return Err(EngineError::Many(listed.len(), OBJECTS_MAX));
    }
    Ok(listed)
}

fn garbled(error: impl std::fmt::Display) -> EngineError {
    EngineError::Garbled(error.to_string())
}
