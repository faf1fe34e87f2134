//! Serves HTTP/1.1 on any listener, with bounds on every connection.
//!
//! Law: one connection, whatever it does, costs the others at most one place among `Limits::connections`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::stall::Impatient;
use crate::controller::told_to_stop;

/// How long open requests may go on after the daemon is told to stop.
const LINGER: Duration = Duration::from_secs(3);
/// How long a client that finds no place may take to read so.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 61\r\nconnection: close\r\n\r\n\
    {\"message\":\"too many connections at once: try again shortly\"}";

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// How long the head of a request may take, and an idle connection may stay.
    pub head: Duration,
    /// How long a client may leave an answer unread.
    pub unread: Duration,
    /// Largest head, bytes.
    pub head_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            head: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            head_len: 64 << 10,
        }
    }
}

/// Serves until told to stop; open requests then get a moment to end.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let io = tokio::select! {
            () = told_to_stop(&mut stop) => break,
            (io, _) = listener.accept() => io,
            Some(_) = connections.join_next() => continue,
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let stop = stop.clone();
                connections.spawn(converse(io, router.clone(), limits, place, stop));
            }
            Err(_) => {
                connections.spawn(refuse(io));
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // Streams of events never end by themselves: they are cut.
    let _ = tokio::time::timeout(LINGER, ended).await;
}

async fn converse<I>(
    io: I,
    router: Router,
    limits: Limits,
    place: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(Impatient::new(io, limits.unread));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_len)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client broke off or spoke no HTTP");
    }
    drop(place);
}

async fn refuse(mut io: impl tokio::io::AsyncWrite + Unpin) {
    let telling = async {
        io.write_all(REFUSAL).await?;
        io.shutdown().await
    };
    // A client that does not listen is no loss.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, telling).await;
}
