//! A TCP connection of which the scenario holds both ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netd_tests::wire::ANSWER_DEADLINE;
use netd_tests::{Netns, eventually};

use super::case::PORT;

/// A peer that has gone is heard of at the latest with what is sent to it.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Its client's and its server's end.
pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// From a namespace to a target that leads to `PORT` of another.
    pub(super) fn open(from: &Netns, target: SocketAddr, to: &Netns) -> Result<Self> {
        let any = SocketAddr::from(([0u16; 8], PORT));
        let listener = to.run(|| Ok(TcpListener::bind(any)?))?;
        let connect = || Ok(TcpStream::connect_timeout(&target, ANSWER_DEADLINE)?);
        let client = from.run(connect).with_context(|| format!("connecting to {target}"))?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(ANSWER_DEADLINE))?;
        }
        Ok(Self { client, server })
    }

    /// Each end says something and hears the other.
    pub(super) fn talk(&self) -> Result<()> {
        for (mut from, mut to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            from.write_all(b"hello")?;
            let mut heard = [0; 5];
            to.read_exact(&mut heard).context("nothing is heard")?;
            ensure!(&heard == b"hello", "{heard:?}");
        }
        Ok(())
    }

    /// The client has said all that it will; what the server says still arrives.
    pub(super) fn goes_on_half_closed(mut self) -> Result<()> {
        self.client.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        self.server.read_to_end(&mut rest).context("the client's end")?;
        for _ in 0..3 {
            self.server.write_all(b"hello")?;
            self.client.read_exact(&mut [0; 5]).context("the server goes on")?;
        }
        drop(self.server);
        self.client.read_to_end(&mut rest).context("the server's end")?;
        ensure!(rest.is_empty(), "{rest:?}");
        Ok(())
    }

    /// One end breaks off, and the other hears of it.
    pub(super) fn breaks_off(self, whose: Whose) -> Result<()> {
        let (broken, mut other) = match whose {
            Whose::Client => (self.client, self.server),
            Whose::Server => (self.server, self.client),
        };
        // What is not read when an end closes is a reset.
        other.write_all(b"unread")?;
        let arrived = || Ok((broken.peek(&mut [0; 6])? == 6).then_some(()));
        eventually("what is not read", ENDS_WITHIN, arrived)?;
        drop(broken);
        match other.read(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            heard => bail!("no reset: {heard:?}"),
        }
    }

    /// The server has gone without a word: what the client sends next is refused.
    pub(super) fn ends(mut self) -> Result<()> {
        eventually("the end of the connection", ENDS_WITHIN, || {
            let heard = self.client.write_all(b"still there?");
            let heard = heard.and_then(|()| self.client.read(&mut [0; 16]));
            let kind = heard.map_err(|error| error.kind());
            let over = matches!(kind, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
            Ok(over.then_some(()))
        })
    }
}

/// An end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    Client,
    Server,
}
