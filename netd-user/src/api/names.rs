//! Bodies about names.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the name service tells a sandbox about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NameAnswer {
    /// The name that was asked for, with its final dot.
    pub name: String,
    /// The record type that was asked for.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The response code, such as `NOERROR`.
    pub rcode: String,
    /// `local`, `cache`, `upstream` or `overload`.
    pub source: String,
    /// Microseconds until the answer.
    pub took_us: u64,
    /// The records.
    pub records: Vec<NameRecord>,
}

/// One record of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NameRecord {
    /// Whose it is.
    pub name: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Seconds that it may be kept.
    #[serde(rename = "TTL")]
    pub ttl_s: u32,
    /// What it says.
    pub data: String,
}

/// An answer of upstreams that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct KeptAnswer {
    /// The name with its final dot.
    pub name: String,
    /// The record type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The response code.
    pub rcode: String,
    /// Seconds that it holds yet.
    #[serde(rename = "TTL")]
    pub ttl_s: u32,
    /// What the records say.
    pub data: Vec<String>,
    /// The servers that may have said it.
    pub servers: Vec<String>,
}

/// What `POST /v1/dns/flush` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Flushed {
    /// Answers forgotten.
    pub answers: u64,
}
