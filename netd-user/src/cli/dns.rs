//! `netd dns`: what containers are told about names.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tabwriter::TabWriter;

use super::client::{Client, escape};
use super::error::CliError;
use super::output::write_pretty;
use crate::api::{Flushed, KeptAnswer, NameAnswer};

#[derive(Debug, Subcommand)]
pub(super) enum DnsVerb {
    /// Ask for a name as a container would; exit code 1 where there is no answer
    Lookup(LookupArgs),
    /// List the answers of name servers that are kept
    Cache(CacheArgs),
    /// Forget the answers of name servers
    Flush,
}

#[derive(Debug, Args)]
pub(super) struct LookupArgs {
    /// The name
    name: String,
    /// The container that asks
    #[arg(long, value_name = "CONTAINER")]
    from: String,
    /// Record type; A and AAAA where none is given
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// 'text' or 'json'
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    /// 'text' or 'json'
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

impl DnsVerb {
    /// Does it.
    pub(super) fn run(&self, client: &Client, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        match self {
            Self::Lookup(args) => lookup(args, client, out),
            Self::Cache(args) => cache(args, client, out).map(|()| ExitCode::SUCCESS),
            Self::Flush => {
                let flushed: Flushed = client.trigger("/v1/dns/flush")?;
                writeln!(out, "{} answers forgotten", flushed.answers)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn lookup(args: &LookupArgs, client: &Client, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let kinds = args.kind.as_deref().map_or(vec!["A", "AAAA"], |kind| vec![kind]);
    let (name, from) = (escape(&args.name), escape(&args.from));
    let ask = |kind: &&str| {
        let kind = escape(kind);
        client.get(&format!("/v1/dns/lookup?name={name}&from={from}&type={kind}"))
    };
    let answers = kinds.iter().map(ask).collect::<Result<Vec<NameAnswer>, CliError>>()?;
    match args.format.as_str() {
        "json" => write_pretty(&answers, out)?,
        _ => write_records(&answers, out)?,
    }
    let found = answers.iter().any(|answer| !answer.records.is_empty());
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_records(answers: &[NameAnswer], out: &mut dyn Write) -> Result<(), CliError> {
    let mut table = TabWriter::new(Vec::new()).minwidth(0).padding(2);
    for record in answers.iter().flat_map(|answer| &answer.records) {
        writeln!(table, "{}\t{}\t{}\t{}", record.name, record.ttl_s, record.kind, record.data)?;
    }
    out.write_all(&table.into_inner().map_err(|error| CliError::Refused(error.to_string()))?)?;
    for answer in answers.iter().filter(|answer| answer.records.is_empty()) {
        eprintln!(
            "{} {}: no records ({}, {})",
            answer.name, answer.kind, answer.rcode, answer.source
        );
    }
    Ok(())
}

fn cache(args: &CacheArgs, client: &Client, out: &mut dyn Write) -> Result<(), CliError> {
    let kept: Vec<KeptAnswer> = client.get("/v1/dns/cache")?;
    if args.format == "json" {
        return write_pretty(&kept, out);
    }
    let mut table = TabWriter::new(Vec::new()).minwidth(0).padding(2);
    writeln!(table, "NAME\tTYPE\tRCODE\tTTL\tSERVERS\tDATA")?;
    for answer in &kept {
        let (servers, data) = (answer.servers.join(","), answer.data.join(" "));
        let KeptAnswer { name, kind, rcode, ttl_s, .. } = answer;
        writeln!(table, "{name}\t{kind}\t{rcode}\t{ttl_s}\t{servers}\t{data}")?;
    }
    Ok(out.write_all(&table.into_inner().map_err(|error| CliError::Refused(error.to_string()))?)?)
}
