//! Logs: text or JSON on stderr, with a filter that can be changed while running.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::LogFormat;
use crate::frontend::LogControl;

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is wrong.
    #[error("log-level: {0}")]
    Filter(String),
    /// Something else took the log first.
    #[error("logs can't be set up: {0}")]
    Taken(String),
}

/// Starts logging; the control changes the filter.
pub(super) fn start(filter: &str, format: LogFormat) -> Result<LogControl, LoggingError> {
    let (layer, handle) = reload::Layer::new(parse(filter).map_err(LoggingError::Filter)?);
    let output: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Json => Box::new(fmt::layer().json().with_writer(std::io::stderr)),
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            Box::new(fmt::layer().with_ansi(colours).with_writer(std::io::stderr))
        }
    };
    let subscriber = Registry::default().with(layer).with(output);
    subscriber.try_init().map_err(|error| LoggingError::Taken(error.to_string()))?;
    Ok(LogControl::new(move |filter| {
        let filter = parse(filter)?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// Reads a filter; its refusal names the remedy.
pub(super) fn parse(filter: &str) -> Result<EnvFilter, String> {
    let remedy = "write 'info', 'debug' or 'netd_user::MODULE=trace'";
    if filter.trim().is_empty() {
        return Err(format!("an empty filter would silence the log: {remedy}"));
    }
    filter.parse().map_err(|_| format!("'{filter}' is no log filter: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_refused_with_the_remedy() {
        for filter in ["info", "warn,netd_user::reconcile=trace"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
        for filter in ["", "netd_user=loudest", "a=b=c"] {
            let refusal = parse(filter).expect_err(filter);
            assert!(refusal.contains("write 'info'"), "{refusal}");
        }
    }
}
