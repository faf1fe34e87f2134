//! Docker's `--format` templates: Go templates with Docker's functions over JSON values.
//!
//! Law: what a struct is in Docker is an object here (an unknown field is an error), what is a map
//! there is a map here (a missing key is `<no value>`), so that scripts fail and pass alike.

use std::collections::{BTreeMap, HashMap};

use gtmpl_ng::{Context, Func, FuncError, Number, Template, Value};
use serde_json::Value as Json;

use super::error::CliError;

/// Fields whose keys users choose.
const MAPS: [&str; 9] = [
    "Containers",
    "Options",
    "Labels",
    "Networks",
    "AuxiliaryAddresses",
    "Drops",
    "DriverOpts",
    LABELS,
    "PortBindings",
];
/// Where `.Label "x"` looks, out of reach of a template's own names.
pub(super) const LABELS: &str = "netd_labels";
const LABEL: &str = "netd_label";

/// A parsed template.
pub(super) struct Format(Template);

impl Format {
    /// For rows and inspected objects.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        Self::parse(text, &[(LABEL, label)])
    }

    /// For the header of a table: the fields hold titles, which the functions leave alone.
    pub(super) fn header(text: &str) -> Result<Self, String> {
        let kept =
            ["json", "title", "lower", "upper", "truncate"].map(|name| (name, first as Func));
        Self::parse(text, &[&kept[..], &[(LABEL, label_title)]].concat())
    }

    fn parse(text: &str, special: &[(&str, Func)]) -> Result<Self, String> {
        let mut template = Template::default();
        template.add_funcs(&functions());
        template.add_funcs(special);
        template
            .parse(rewrite_labels(&unescape(text)))
            .map_err(|error| format!("template parsing error: {error}"))?;
        Ok(Self(template))
    }

    /// The text for one value.
    pub(super) fn render(&self, value: &Json) -> Result<String, CliError> {
        self.0
            .render(&Context::from(to_value(value, false)))
            .map_err(|error| CliError::Refused(format!("failed to execute template: {error}")))
    }
}

/// Checks a template on the command line.
pub(super) fn checked(text: &str) -> Result<String, String> {
    let body = text.strip_prefix("table").map_or(text, str::trim_start);
    Format::new(body).map(|_| text.to_owned())
}

/// `\t` and `\n` as Docker takes them, since a shell's single quotes keep them as two characters.
pub(super) fn unescape(text: &str) -> String {
    text.replace(r"\t", "\t").replace(r"\n", "\n")
}

fn functions() -> [(&'static str, Func); 8] {
    [
        ("json", json),
        ("split", split),
        ("join", join),
        ("title", title),
        ("lower", lower),
        ("upper", upper),
        ("pad", pad),
        ("truncate", truncate),
    ]
}

/// Fields take no arguments in this engine: `.Label "x"` becomes a call on the map of labels.
fn rewrite_labels(text: &str) -> String {
    let mut parts = text.split("{{");
    let mut rewritten = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (action, rest) = part.split_once("}}").unwrap_or((part, ""));
        rewritten.push_str("{{");
        rewritten.push_str(&rewrite_action(action));
        rewritten.push_str(&part[action.len()..part.len() - rest.len()]);
        rewritten.push_str(rest);
    }
    rewritten
}

fn rewrite_action(action: &str) -> String {
    let mut quoted = false;
    action
        .split_inclusive('"')
        .map(|piece| {
            let text = if quoted { piece.to_owned() } else { rewrite_code(piece) };
            quoted ^= piece.ends_with('"');
            text
        })
        .collect()
}

fn rewrite_code(code: &str) -> String {
    code.replace("$.Label ", &format!("{LABEL} $.{LABELS} "))
        .replace(".Label ", &format!("{LABEL} .{LABELS} "))
}

fn to_value(json: &Json, map: bool) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Number(to_number(number)),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => {
            Value::Array(items.iter().map(|item| to_value(item, false)).collect())
        }
        Json::Object(fields) => {
            let fields: HashMap<_, _> = fields
                .iter()
                .map(|(key, value)| (key.clone(), to_value(value, MAPS.contains(&key.as_str()))))
                .collect();
            if map { Value::Map(fields) } else { Value::Object(fields) }
        }
    }
}

fn to_number(number: &serde_json::Number) -> Number {
    number
        .as_u64()
        .map(Number::unsigned)
        .or_else(|| number.as_i64().map(Number::signed))
        .unwrap_or_else(|| Number::float(number.as_f64().unwrap_or_default()))
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::String(text) => Json::String(text.clone()),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Number(number) => serde_json::from_str(&number.to_string()).unwrap_or(Json::Null),
        Value::Object(fields) | Value::Map(fields) => {
            let visible = fields.iter().filter(|(key, _)| key.as_str() != LABELS);
            let sorted: BTreeMap<_, _> =
                visible.map(|(key, value)| (key, to_json(value))).collect();
            sorted.into_iter().map(|(key, value)| (key.clone(), value)).collect()
        }
    }
}

fn argument<'a>(name: &str, args: &'a [Value], at: usize) -> Result<&'a Value, FuncError> {
    args.get(at).ok_or_else(|| FuncError::ExactlyXArgs(name.to_owned(), at + 1))
}

fn text<'a>(name: &str, args: &'a [Value], at: usize) -> Result<&'a str, FuncError> {
    let value = argument(name, args, at)?;
    if let Value::String(text) = value {
        return Ok(text);
    }
    if matches!(value, Value::NoValue) {
        return Ok("");
    }
    Err(FuncError::Generic(format!("{name}: {value} is no string")))
}

fn count(name: &str, args: &[Value], at: usize) -> Result<usize, FuncError> {
    let value = argument(name, args, at)?;
    let number = if let Value::Number(number) = value { number.as_u64() } else { None };
    number
        .and_then(|number| usize::try_from(number).ok())
        .filter(|&number| number <= 1 << 20)
        .ok_or_else(|| FuncError::Generic(format!("{name}: {value} is no length")))
}

fn first(args: &[Value]) -> Result<Value, FuncError> {
    argument("header", args, 0).cloned()
}

fn json(args: &[Value]) -> Result<Value, FuncError> {
    Ok(to_json(argument("json", args, 0)?).to_string().into())
}

fn split(args: &[Value]) -> Result<Value, FuncError> {
    let parts = text("split", args, 0)?.split(text("split", args, 1)?);
    Ok(Value::Array(parts.map(Value::from).collect()))
}

fn join(args: &[Value]) -> Result<Value, FuncError> {
    let separator = text("join", args, 1)?;
    let Value::Array(items) = argument("join", args, 0)? else {
        return Err(FuncError::Generic("join: the first argument is no list".into()));
    };
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    Ok(items.join(separator).into())
}

fn title(args: &[Value]) -> Result<Value, FuncError> {
    let mut start = true;
    let titled = text("title", args, 0)?.chars().map(|letter| {
        let shown = if start { letter.to_uppercase().next().unwrap_or(letter) } else { letter };
        start = letter.is_whitespace();
        shown
    });
    Ok(titled.collect::<String>().into())
}

fn lower(args: &[Value]) -> Result<Value, FuncError> {
    Ok(text("lower", args, 0)?.to_lowercase().into())
}

fn upper(args: &[Value]) -> Result<Value, FuncError> {
    Ok(text("upper", args, 0)?.to_uppercase().into())
}

fn pad(args: &[Value]) -> Result<Value, FuncError> {
    let source = text("pad", args, 0)?;
    if source.is_empty() {
        return Ok(source.into());
    }
    let (before, after) = (count("pad", args, 1)?, count("pad", args, 2)?);
    Ok(format!("{}{source}{}", " ".repeat(before), " ".repeat(after)).into())
}

fn truncate(args: &[Value]) -> Result<Value, FuncError> {
    let length = count("truncate", args, 1)?;
    Ok(text("truncate", args, 0)?.chars().take(length).collect::<String>().into())
}

fn label(args: &[Value]) -> Result<Value, FuncError> {
    let name = text("Label", args, 1)?;
    let Value::Map(labels) = argument("Label", args, 0)? else { return Ok("".into()) };
    Ok(labels.get(name).cloned().unwrap_or_else(|| "".into()))
}

/// The last part of the label's name is the column's title.
fn label_title(args: &[Value]) -> Result<Value, FuncError> {
    let name = text("Label", args, 1)?;
    let last = name.rsplit('.').next().unwrap_or(name);
    Ok(last.replace(['-', '_'], " ").into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> String {
        let value = json!({
            "Name": "front end", "ID": "0123456789abcdef", "Count": 3, "On": true,
            "List": ["a", "b"], "Labels": {"a.b": "c"}, "netd_labels": {"com.x": "y"},
            "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]},
        });
        match Format::new(template) {
            Ok(format) => format.render(&value).unwrap_or_else(|error| error.to_string()),
            Err(error) => error,
        }
    }

    #[test]
    fn dockers_functions_do_what_they_do_there() {
        for (template, expected) in [
            ("{{.Name}}", "front end"),
            ("{{json .Name}}", "\"front end\""),
            ("{{json .IPAM.Config}}", "[{\"Subnet\":\"10.1.0.0/24\"}]"),
            ("{{(index .IPAM.Config 0).Subnet}}", "10.1.0.0/24"),
            ("{{join .List \", \"}}", "a, b"),
            ("{{split .Name \" \" | len}}", "2"),
            ("{{title .Name}} {{upper .Name}} {{lower \"AbC\"}}", "Front End FRONT END abc"),
            ("{{pad .Name 1 2}}|{{pad \"\" 1 2}}", " front end  |"),
            ("{{truncate .ID 12}}", "0123456789ab"),
            ("{{range .List}}{{println .}}{{end}}", "a\nb\n"),
            (r"{{.Name}}\t{{.Count}}\n", "front end\t3\n"),
            ("{{if .On}}yes{{else}}no{{end}}", "yes"),
            ("{{index .Labels \"a.b\"}}", "c"),
        ] {
            assert_eq!(rendered(template), expected, "{template}");
        }
    }

    #[test]
    fn label_is_a_method_with_an_argument() {
        assert_eq!(rendered("{{.Label \"com.x\"}}"), "y");
        assert_eq!(rendered("{{.Label \"none\"}}"), "");
        assert_eq!(rendered("{{range .List}}{{$.Label \"com.x\" | upper}}{{end}}"), "YY");
        assert_eq!(rendered("{{\".Label x\"}} .Label x"), ".Label x .Label x");
    }

    #[test]
    fn an_unknown_field_is_an_error_and_a_missing_key_is_not() {
        assert!(rendered("{{.Foo}}").starts_with("failed to execute template: "));
        assert_eq!(rendered("{{.Labels.nope}}"), "<no value>");
    }

    #[test]
    fn broken_templates_are_refused() {
        for template in ["{{", "{{.Name", "{{nope .Name}}", "{{end}}"] {
            assert!(rendered(template).starts_with("template parsing error: "), "{template}");
            assert!(checked(template).is_err(), "{template}");
        }
    }

    #[test]
    fn wrong_arguments_are_errors_not_crashes() {
        for template in [
            "{{truncate .Name -1}}",
            "{{pad .Name 9999999999 1}}",
            "{{join .Name \",\"}}",
            "{{json}}",
        ] {
            assert!(rendered(template).starts_with("failed"), "{template}: {}", rendered(template));
        }
    }
}
