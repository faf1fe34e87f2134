//! How lists and objects are shown: tables, JSON lines, templates, as Docker does.

use std::io::Write;

use serde::Serialize;
use serde_json::Value as Json;
use serde_json::ser::{PrettyFormatter, Serializer};
use tabwriter::TabWriter;

use super::error::CliError;
use super::template::{Format, LABELS};

/// How a list of one kind of object is shown.
pub(super) struct Listing {
    /// What `--quiet` shows: a template of one field.
    pub(super) quiet: &'static str,
    /// The columns where no format is given.
    pub(super) table: &'static str,
    /// Title of each field that a template may name.
    pub(super) titles: &'static [(&'static str, &'static str)],
}

/// One object of a list: a text for each field, and the labels that `.Label` looks into.
pub(super) type Row = Json;

impl Listing {
    /// Writes the list: `format` is empty, `table`, `table TEMPLATE`, `json` or a template.
    pub(super) fn write(
        &self,
        rows: &[Row],
        format: Option<&str>,
        quiet: bool,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        let format = format.unwrap_or_default();
        if quiet && (format.is_empty() || format == "table") {
            return write_rows(rows, self.quiet, out);
        }
        match format.strip_prefix("table") {
            Some("") => self.write_table(rows, self.table, out),
            Some(columns) if columns.starts_with(char::is_whitespace) => {
                self.write_table(rows, columns.trim_start(), out)
            }
            _ if format.is_empty() => self.write_table(rows, self.table, out),
            _ if format == "json" => write_rows(rows, "{{json .}}", out),
            _ => write_rows(rows, format, out),
        }
    }

    fn write_table(
        &self,
        rows: &[Row],
        columns: &str,
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        // Go's tabwriter counts the padding within the minimum width of 10, this one beside it.
        let mut table = TabWriter::new(Vec::new()).minwidth(7).padding(3);
        let header = Format::header(columns).map_err(CliError::Refused)?;
        writeln!(table, "{}", header.render(&self.titles())?)?;
        write_rows(rows, columns, &mut table)?;
        let text = table.into_inner().map_err(|error| CliError::Refused(error.to_string()))?;
        Ok(out.write_all(&text)?)
    }

    fn titles(&self) -> Json {
        let mut titles: serde_json::Map<_, _> = self
            .titles
            .iter()
            .map(|(field, title)| ((*field).to_owned(), Json::from(*title)))
            .collect();
        titles.insert(LABELS.to_owned(), Json::Object(serde_json::Map::new()));
        Json::Object(titles)
    }
}

fn write_rows(rows: &[Row], template: &str, out: &mut dyn Write) -> Result<(), CliError> {
    let format = Format::new(template).map_err(CliError::Refused)?;
    for row in rows {
        writeln!(out, "{}", format.render(row)?)?;
    }
    Ok(())
}

/// Writes inspected objects: an indented JSON array, one line of JSON, or a template for each.
pub(super) fn write_inspected<T: Serialize>(
    objects: &[T],
    format: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    match format {
        None | Some("") => write_pretty(objects, out),
        Some("json") => Ok(writeln!(out, "{}", to_json(objects)?)?),
        Some(template) => {
            let rows = objects.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
            write_rows(&rows, template, out)
        }
    }
}

/// Writes JSON indented by four spaces, as Docker's `inspect` does.
pub(super) fn write_pretty<T: Serialize + ?Sized>(
    value: &T,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let mut text = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer).map_err(|error| CliError::Refused(error.to_string()))?;
    text.push(b'\n');
    Ok(out.write_all(&text)?)
}

/// The JSON value of an object.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Json, CliError> {
    serde_json::to_value(value).map_err(|error| CliError::Refused(error.to_string()))
}

/// An id as lists show it: 12 digits, unless all are asked for.
pub(super) fn shown_id(id: &str, no_trunc: bool) -> &str {
    if no_trunc { id } else { id.get(..12).unwrap_or(id) }
}

/// Labels as lists show them.
pub(super) fn shown_labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LISTING: Listing = Listing {
        quiet: "{{.ID}}",
        table: "{{.ID}}\t{{.Name}}",
        titles: &[("ID", "THING ID"), ("Name", "NAME")],
    };

    fn listed(format: Option<&str>, quiet: bool) -> String {
        let rows = [
            json!({"ID": "0123456789ab", "Name": "front", "netd_labels": {"a.b-c": "v"}}),
            json!({"ID": "1", "Name": "back", "netd_labels": {}}),
        ];
        let mut out = Vec::new();
        LISTING.write(&rows, format, quiet, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_align_with_three_spaces() {
        let expected = "THING ID       NAME\n0123456789ab   front\n1              back\n";
        assert_eq!(listed(None, false), expected);
        assert_eq!(listed(Some("table"), false), expected);
        assert_eq!(listed(Some("table {{.Name}}"), false), "NAME\nfront\nback\n");
    }

    #[test]
    fn narrow_columns_are_ten_wide() {
        assert_eq!(
            listed(Some(r"table {{.Name}}\t{{.ID}}"), false),
            "NAME      THING ID\nfront     0123456789ab\nback      1\n"
        );
    }

    #[test]
    fn a_label_column_is_titled_by_the_labels_last_part() {
        assert_eq!(
            listed(Some(r#"table {{.Label "a.b-c"}}\t{{upper .Name}}"#), false),
            "b c       NAME\nv         FRONT\n          BACK\n"
        );
    }

    #[test]
    fn quiet_shows_ids_and_yields_to_a_template() {
        assert_eq!(listed(None, true), "0123456789ab\n1\n");
        assert_eq!(listed(Some("{{.Name}}"), true), "front\nback\n");
    }

    #[test]
    fn json_is_one_object_a_line_without_our_own_fields() {
        assert_eq!(
            listed(Some("json"), false),
            "{\"ID\":\"0123456789ab\",\"Name\":\"front\"}\n{\"ID\":\"1\",\"Name\":\"back\"}\n"
        );
    }

    #[test]
    fn inspected_objects_are_an_indented_array() {
        let shown = |format| {
            let mut out = Vec::new();
            write_inspected(&[json!({"Name": "n"})], format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(None), "[\n    {\n        \"Name\": \"n\"\n    }\n]\n");
        assert_eq!(shown(Some("json")), "[{\"Name\":\"n\"}]\n");
        assert_eq!(shown(Some("{{.Name}}")), "n\n");
    }

    #[test]
    fn nothing_inspected_is_an_empty_array() {
        let mut out = Vec::new();
        write_inspected::<Json>(&[], None, &mut out).unwrap();
        assert_eq!(out, b"[]\n");
    }
}
