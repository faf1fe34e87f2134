//! Ids of objects: 32 bytes, shown as 64 hex digits, 12 where space is short.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! object_id {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first 12 digits.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }
        }
    )+};
}

object_id! {
    /// A network's id.
    NetworkId;
    /// An endpoint's id.
    EndpointId;
    /// A sandbox's id.
    SandboxId;
    /// An engine's id of a container, whose sandbox has one of its own here.
    ContainerId;
}

/// Text that is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no id: 64 hex digits are needed")]
pub struct InvalidId(String);

fn parse(text: &str) -> Result<[u8; 32], InvalidId> {
    let invalid = || InvalidId(text.to_owned());
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(invalid());
    }
    let mut id = [0; 32];
    for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| invalid())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = NetworkId(std::array::from_fn(|i| u8::try_from(i * 7).unwrap_or(0xff)));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().len(), 12);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<NetworkId>().is_err(), "{text}");
        }
    }
}
