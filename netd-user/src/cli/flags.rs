//! Values of flags that several verbs share, read as Docker's CLI reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::client::escape;

/// `KEY=VALUE` pairs of repeated flags; a later one wins.
pub(super) type Pair = (String, String);

/// A truth value as Go reads it.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

/// `KEY[=VALUE]` of a label or an option.
pub(super) fn pair(text: &str) -> Result<Pair, String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `NAME=ADDRESS`.
pub(super) fn named_address(text: &str) -> Result<Pair, String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDRESS")?;
    Ok((name.to_owned(), address.to_owned()))
}

/// `NAME=VALUE` of a filter.
pub(super) fn filter(text: &str) -> Result<Pair, String> {
    let (name, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}

/// A MAC address of six bytes.
pub(super) fn mac(text: &str) -> Result<String, String> {
    crate::model::endpoint::parse_mac(&text.replace('-', ":"))
        .map(crate::model::endpoint::format_mac)
        .ok_or_else(|| format!("{text} is not a valid mac address"))
}

/// One word of a line.
pub(super) fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!("'{text}' is not one word"));
    }
    Ok(text.to_owned())
}

/// The pairs as a map.
pub(super) fn to_map(pairs: &[Pair]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

/// The query of a request with filters, in Docker's JSON form; empty without any.
pub(super) fn filter_query(filters: &[Pair]) -> String {
    if filters.is_empty() {
        return String::new();
    }
    let mut sets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in filters {
        sets.entry(name).or_default().insert(value);
    }
    format!("?filters={}", escape(&serde_json::json!(sets).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word() {
        assert!(word("ndots:1").is_ok());
        assert!(word("a b").is_err() && word("").is_err());
    }

    #[test]
    fn truth_is_gos() {
        assert_eq!((truth("T"), truth("0")), (Ok(true), Ok(false)));
        assert!(truth("yes").is_err());
    }

    #[test]
    fn a_label_may_lack_a_value_but_not_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a"), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("").is_err());
    }

    #[test]
    fn filters_need_a_value() {
        assert_eq!(filter("Driver = bridge"), Ok(("driver".into(), "bridge".into())));
        assert!(filter("driver").is_err());
    }

    #[test]
    fn filters_of_one_name_become_one_list() {
        let filters = [("label", "a"), ("label", "b"), ("id", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            filter_query(&filters),
            format!("?filters={}", escape(r#"{"id":["1"],"label":["a","b"]}"#))
        );
        assert_eq!(filter_query(&[]), "");
    }

    #[test]
    fn a_mac_is_written_in_one_form() {
        assert_eq!(mac("02-AB-00-00-00-01").as_deref(), Ok("02:ab:00:00:00:01"));
        assert_eq!(mac("zz"), Err("zz is not a valid mac address".into()));
    }
}
