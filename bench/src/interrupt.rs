//! Stop signals: they set a flag that every loop looks at, so that whatever was made is removed on
//! the way out.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Turns ctrl-C and termination into the flag.
pub(crate) fn install() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handler of {signal}"))?;
    }
    Ok(())
}

/// Whether to stop.
pub(crate) fn requested() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// An error once a stop was asked for.
pub(crate) fn check() -> Result<()> {
    if requested() {
        bail!("stopped by a signal");
    }
    Ok(())
}
