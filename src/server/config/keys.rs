//! Every key there is, its shape, and how a `SHOUYIN_…` variable names it. Never looks at what a value
//! means: `check` does.

use toml::{Table, Value};

use super::ConfigError;

/// What may stand behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    /// A list of texts; in a variable with commas between.
    List,
    Bool,
    /// A whole number.
    Number,
}

use Shape::{Bool, List, Number, Text};

const SERVER: &[(&str, Shape)] = &[
    ("listen", Text),
    ("public_base_url", Text),
    ("trusted_proxies", List),
    ("admin_listen", Text),
    ("secret_file", Text),
];
const STORE: &[(&str, Shape)] = &[("url", Text)];
const GATEWAYS: &[(&str, Shape)] =
    &[("wechat_pay", Text), ("wechat_api", Text), ("wechat_open", Text), ("alipay", Text)];
const MERCHANT: &[(&str, Shape)] = &[
    ("id", Text),
    ("name", Text),
    ("support", Text),
    ("locale", Text),
    ("hosts", List),
    ("api_key_sha256", List),
    ("webhook_url", Text),
    ("webhook_secret", Text),
    ("webhook_secret_file", Text),
    ("webhook_allow", List),
    ("allowed_origins", List),
    ("embed_origins", List),
    ("return_after_s", Number),
    ("anonymous_push_order", Bool),
    ("token_check_url", Text),
    ("pad_pin", Text),
    ("pad_pin_file", Text),
    ("late_payment", Text),
    ("duplicate_payment", Text),
];
const WECHAT: &[(&str, Shape)] = &[
    ("app_id", Text),
    ("app_secret", Text),
    ("app_secret_file", Text),
    ("mch_id", Text),
    ("api", Text),
    ("sign_type", Text),
    ("api_v2_key", Text),
    ("api_v2_key_file", Text),
    ("api_v3_key", Text),
    ("api_v3_key_file", Text),
    ("merchant_serial", Text),
    ("merchant_private_key", Text),
    ("merchant_private_key_file", Text),
    ("merchant_certificate_file", Text),
    ("platform_public_key_id", List),
    ("platform_public_key_file", List),
    ("platform_certificate_file", List),
];
const ALIPAY: &[(&str, Shape)] = &[
    ("app_id", Text),
    ("seller_id", Text),
    ("gateway_url", Text),
    ("app_private_key", Text),
    ("app_private_key_file", Text),
    ("app_public_key_file", Text),
    ("alipay_public_key", Text),
    ("alipay_public_key_file", Text),
    ("app_certificate_file", Text),
    ("alipay_certificate_file", Text),
    ("alipay_root_certificate_file", Text),
];

/// Sections with a name of their own, and those inside a `[[merchant]]`.
const TOP: &[(&str, &[(&str, Shape)])] = &[("server", SERVER), ("store", STORE), ("gateways", GATEWAYS)];
const INSIDE: &[(&str, &[(&str, Shape)])] = &[("wechat", WECHAT), ("alipay", ALIPAY)];

/// Variables of ours that are no keys of the file: they are read by `cli` and `logging`.
const OTHER: &[&str] = &["SHOUYIN_CONFIG", "SHOUYIN_LOG", "SHOUYIN_LOG_FORMAT"];

/// Puts variables into the table. `SHOUYIN_SERVER_LISTEN` is `server.listen`; `SHOUYIN_MERCHANT_1_NAME`
/// is `name` of the second merchant, `SHOUYIN_MERCHANT_NAME` that of the first.
pub fn apply(table: &mut Table, env: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
    let mut ours: Vec<(String, String)> = env
        .into_iter()
        .filter(|(name, _)| name.starts_with("SHOUYIN_") && !OTHER.contains(&name.as_str()))
        .collect();
    // By name, so that merchant 0 is made before merchant 1.
    ours.sort();
    for (name, value) in ours {
        set(table, &name, &value)?;
    }
    Ok(())
}

fn set(table: &mut Table, name: &str, text: &str) -> Result<(), ConfigError> {
    let refuse = |problem: &str, cure: &str| ConfigError {
        file: "environment".to_owned(),
        key: name.to_owned(),
        problem: problem.to_owned(),
        cure: cure.to_owned(),
    };
    let rest = name.strip_prefix("SHOUYIN_").unwrap_or(name).to_ascii_lowercase();
    let Some(place) = find(&rest) else {
        return Err(refuse("names no key", "Correct it or unset it; the keys are in docs/configuration.md"));
    };
    let value = match place.shape {
        Text => Value::String(text.to_owned()),
        List => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(|word| Value::String(word.to_owned()))
                .collect(),
        ),
        Bool => {
            Value::Boolean(text.parse().map_err(|_| refuse("is not true or false", "Set it to one of them"))?)
        }
        Number => Value::Integer(text.parse().map_err(|_| refuse("is not a whole number", "Set it to one"))?),
    };
    let misplaced = || refuse("does not fit the file", "Check the sections of the file");
    let section = match place.merchant {
        None => table,
        Some(index) => match merchant(table, index) {
            Ok(section) => section.ok_or_else(misplaced)?,
            Err(Gap) => return Err(refuse("leaves out a merchant", "Number merchants from 0, without gaps")),
        },
    };
    let section = match place.section {
        None => section,
        Some(name) => section
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(misplaced)?,
    };
    // The variable wins over the other way to give the same secret.
    match place.key.strip_suffix("_file") {
        Some(inline) => section.remove(inline),
        None => section.remove(&format!("{}_file", place.key)),
    };
    section.insert(place.key.to_owned(), value);
    Ok(())
}

/// A merchant's number is beyond the next one.
struct Gap;

/// The merchant of that number, made if it is the next one. `None` if the file has something else there.
fn merchant(table: &mut Table, index: usize) -> Result<Option<&mut Table>, Gap> {
    let entry = table.entry("merchant").or_insert_with(|| Value::Array(Vec::new()));
    let Some(list) = entry.as_array_mut() else { return Ok(None) };
    if index == list.len() {
        list.push(Value::Table(Table::new()));
    }
    list.get_mut(index).map(Value::as_table_mut).ok_or(Gap)
}

/// Where a variable goes.
struct Place {
    merchant: Option<usize>,
    section: Option<&'static str>,
    key: &'static str,
    shape: Shape,
}

fn find(rest: &str) -> Option<Place> {
    if let Some(rest) = rest.strip_prefix("merchant_") {
        let (index, rest) = match rest.split_once('_') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                (number.parse().ok()?, rest)
            }
            _ => (0, rest),
        };
        let inside = INSIDE.iter().find_map(|(section, keys)| {
            Some((Some(*section), known(keys, rest.strip_prefix(section)?.strip_prefix('_')?)?))
        });
        let (section, (key, shape)) = inside.or_else(|| Some((None, known(MERCHANT, rest)?)))?;
        return Some(Place { merchant: Some(index), section, key, shape });
    }
    TOP.iter().find_map(|(section, keys)| {
        let (key, shape) = known(keys, rest.strip_prefix(section)?.strip_prefix('_')?)?;
        Some(Place { merchant: None, section: Some(section), key, shape })
    })
}

fn known(keys: &[(&'static str, Shape)], name: &str) -> Option<(&'static str, Shape)> {
    keys.iter().find(|(key, _)| *key == name).copied()
}

/// Refuses unknown keys and wrong shapes, so that what reads the table afterwards need not.
pub fn check(table: &Table, file: &str) -> Result<(), ConfigError> {
    for (name, value) in table {
        if let Some((_, keys)) = TOP.iter().find(|(section, _)| section == name) {
            section(value, name, keys, &[], file)?;
        } else if name == "merchant" {
            let Some(list) = value.as_array() else {
                return Err(error(file, name, "is not a list", "Write it as [[merchant]]"));
            };
            for (index, value) in list.iter().enumerate() {
                section(value, &format!("merchant[{index}]"), MERCHANT, INSIDE, file)?;
            }
        } else {
            let known: Vec<&str> = TOP.iter().map(|(section, _)| *section).collect();
            let cure = format!("Known sections: {}, [merchant]", bracketed(&known));
            return Err(error(file, name, "is not known", &cure));
        }
    }
    Ok(())
}

fn section(
    value: &Value,
    path: &str,
    keys: &[(&'static str, Shape)],
    inside: &[(&str, &[(&'static str, Shape)])],
    file: &str,
) -> Result<(), ConfigError> {
    let Some(table) = value.as_table() else {
        return Err(error(file, path, "is not a section", &format!("Write it as [{path}]")));
    };
    for (name, value) in table {
        let path = format!("{path}.{name}");
        if let Some((_, keys)) = inside.iter().find(|(section, _)| section == name) {
            section(value, &path, keys, &[], file)?;
            continue;
        }
        let Some((_, shape)) = known(keys, name) else {
            let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
            return Err(error(file, &path, "is not known", &format!("Known here: {}", names.join(", "))));
        };
        let fits = match shape {
            Text => value.is_str(),
            // One text is a list of one.
            List => value.is_str() || value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
            Bool => value.is_bool(),
            Number => value.is_integer(),
        };
        if !fits {
            let cure = match shape {
                Text => "Write it in quotes",
                List => "Write it as a list of texts, [\"…\", \"…\"]",
                Bool => "Write true or false",
                Number => "Write a whole number, without quotes",
            };
            return Err(error(file, &path, "has the wrong type", cure));
        }
    }
    Ok(())
}

/// Every key, section and name.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let sections = TOP.iter().chain(INSIDE).copied().chain([("merchant", MERCHANT)]);
    sections.flat_map(|(section, keys)| keys.iter().map(move |(key, _)| (section, *key)))
}

fn bracketed(names: &[&str]) -> String {
    names.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(", ")
}

fn error(file: &str, key: &str, problem: &str, cure: &str) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        key: key.to_owned(),
        problem: problem.to_owned(),
        cure: cure.to_owned(),
    }
}
