//! The name of a link, as the model, the facts and what is compiled from them share it.
//!
//! Law: a copy shares the text: every apply copies the names of all links several times.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Name of a link; a clone shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct LinkName(Arc<str>);

impl From<String> for LinkName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&str> for LinkName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Deref for LinkName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Maps by name are asked with plain text.
impl Borrow<str> for LinkName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for LinkName {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
