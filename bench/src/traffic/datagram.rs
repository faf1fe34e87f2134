//! UDP request and response.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Burst, PATIENCE, Route, clock};
use crate::cpu::{self, RealTime};
use crate::namespace::join;

/// `UDP_RR`: one pair of sockets.
pub(super) fn requests(route: &Route, cpu: usize, length: Duration) -> Result<Burst> {
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let server = scope.spawn(move || {
            route.server.enter()?;
            let socket = UdpSocket::bind(route.listen_address()).context("binding")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            ready.send(()).context("the client is gone")?;
            serve(&socket, cpu)
        });
        if is_ready.recv().is_err() {
            join(server)?;
            bail!("the server ended before it was bound");
        }
        let burst = join(scope.spawn(|| client(route, cpu, length)));
        join(server).and(burst)
    })
}

fn client(route: &Route, cpu: usize, length: Duration) -> Result<Burst> {
    route.enter_client()?;
    let socket = UdpSocket::bind(route.any(0)).context("binding")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(route.connect).context("connect")?;
    let burst = clock(cpu, length, || {
        socket.send(&[1]).context("request")?;
        socket.recv(&mut [0]).context("response")?;
        Ok(())
    });
    // An empty datagram ends the server; where it is lost, its patience does.
    socket.send(&[]).context("farewell")?;
    burst
}

fn serve(socket: &UdpSocket, cpu: usize) -> Result<()> {
    cpu::pin(cpu)?;
    let _burst = RealTime::enter()?;
    let mut byte = [0];
    while let Ok((1.., client)) = socket.recv_from(&mut byte) {
        socket.send_to(&byte, client).context("response")?;
    }
    Ok(())
}
