//! TCP request and response.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{Shutdown, shutdown};

use super::{Burst, PATIENCE, Route, clock};
use crate::cpu::{self, RealTime};
use crate::namespace::join;

/// `TCP_RR`: one connection.
pub(super) fn requests(route: &Route, cpu: usize, length: Duration) -> Result<Burst> {
    with_server(route, cpu, || {
        let mut stream = connect(route)?;
        clock(cpu, length, || exchange(&mut stream))
    })
}

/// `TCP_CRR`: a connection for each request.
pub(super) fn connections(route: &Route, cpu: usize, length: Duration) -> Result<Burst> {
    with_server(route, cpu, || clock(cpu, length, || exchange(&mut connect(route)?)))
}

fn with_server(
    route: &Route,
    cpu: usize,
    client: impl FnOnce() -> Result<Burst> + Send,
) -> Result<Burst> {
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let server = scope.spawn(move || {
            route.server.enter()?;
            let listener = TcpListener::bind(route.listen_address()).context("listening")?;
            ready.send(listener.try_clone()?).context("the client is gone")?;
            serve(&listener, cpu)
        });
        let Ok(listener) = is_ready.recv() else {
            join(server)?;
            bail!("the server ended before it listened");
        };
        let burst = join(scope.spawn(|| {
            route.enter_client()?;
            client()
        }));
        // Wakes the server out of accept, for which that is the end.
        let stopped = shutdown(listener.as_raw_fd(), Shutdown::Both).context("stopping the server");
        join(server).and(stopped)?;
        burst
    })
}

fn serve(listener: &TcpListener, cpu: usize) -> Result<()> {
    cpu::pin(cpu)?;
    let _burst = RealTime::enter()?;
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        answer(&mut stream);
    }
    Ok(())
}

/// Echoes until the client is done; a client that breaks off tells its own story.
fn answer(stream: &mut TcpStream) {
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
}

fn connect(route: &Route) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&route.connect, PATIENCE).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(&[1]).context("request")?;
    stream.read_exact(&mut [0]).context("response")
}
