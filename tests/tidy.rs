//! The rules of the house, checked: who may import whom, lengths, headers, words that must not stay.
//! Never a matter of taste: each finding names file, line and rule. A sample that breaks every rule is
//! checked too, so that no rule can fall asleep.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Module, then what it may import besides itself (architecture: true, on the wire, in the browser, in the
/// world, the other side). The longest prefix counts. `ui` may also name `server` inside function bodies:
/// the browser build drops those of server functions.
const MAY_IMPORT: &[(&str, &str)] = &[
    ("domain", ""),
    ("gateway", "domain"),
    ("ui", "domain"),
    ("runtime", "domain::id"),
    // Storage knows the domain; the service stands on storage; the faces stand on the service.
    ("server::store", "domain runtime::crash"),
    ("server::capability", "domain"),
    ("server::sealing", "runtime::random"),
    ("server::flight", ""),
    ("server::hub", "domain"),
    ("server::pace", "domain"),
    ("server::pads", "domain"),
    ("server::limits", "domain::id runtime server::capability server::error"),
    ("server::mall_tokens", "domain server::capability"),
    ("server::merchants", "domain gateway runtime server::capability server::config server::store::Policies"),
    (
        "server::checkout",
        "domain gateway runtime server::store server::capability server::config server::flight server::hub \
         server::mall_tokens server::merchants server::pace server::pads server::sealing",
    ),
    (
        "server::worker",
        "domain gateway runtime server::store server::checkout server::capability server::merchants \
         server::pace",
    ),
    // Faces: never each other, and of the store its words only.
    (
        "server::notice",
        "domain gateway runtime server::checkout server::merchants server::error server::config server::json \
         server::limits server::store::Change server::store::InboxRow server::store::Settle \
         server::store::Verdict",
    ),
    (
        "server::api",
        "domain gateway::Stamp runtime ui::view server::checkout server::merchants server::error \
         server::config server::json server::limits server::router server::store::Find \
         server::store::StoredEvent server::store::Endpoint server::store::Try",
    ),
    (
        "server::pages",
        "domain gateway::Stamp gateway::wechat_oauth gateway::wechat_v2::PayParams runtime ui \
          server::assets server::checkout server::merchants server::error server::config server::json \
          server::limits server::pads server::router server::sealing server::store::Find",
    ),
    // Refusals must be known where they are put into words.
    ("server::error", "domain server::checkout::CheckoutError server::store::StoreError"),
    ("server::json", "domain server::error"),
    ("server::assets", "server::error"),
    ("server::logging", "domain runtime"),
    ("server::config", "domain gateway runtime"),
    // What puts the parts together.
    ("server::router", "domain runtime server ui"),
    ("server::service", "domain runtime server"),
    ("server::cli", "domain gateway runtime server emulator torture"),
    ("emulator::demo", "domain gateway runtime server emulator"),
    ("emulator", "domain gateway runtime"),
    // From outside, like a mall, a shopper and a power cut.
    ("torture", "domain gateway runtime server emulator"),
];

/// Put together here, so that this file does not hold them.
const BANNED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("HA", "CK:"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("dbg", "!("),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("To be writ", "ten"),
];

const COLUMNS: usize = 110;
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
/// Directories that hold nothing of ours, or bytes made by other people's programs.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", "vectors", "data", "results"];
/// What is read for banned words.
const TEXTS: &[&str] =
    &["rs", "toml", "md", "mjs", "js", "ts", "css", "html", "txt", "sh", "yml", "yaml", "py", "sql", "svg"];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, &mut files);
    let rust = files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs")).count();
    assert!(rust > 30, "only {rust} Rust files found: looking in the wrong place");
    let mut findings = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        findings.extend(check(&name, &fs::read_to_string(&path).unwrap()));
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_rule_is_awake() {
    let long_function = format!("fn f() {{\n{}}}\n", "    work();\n".repeat(FUNCTION_LINES));
    let page = format!("fn f() {{\n    view! {{\n{}    }}\n}}\n", "        <p/>\n".repeat(FUNCTION_LINES));
    let header = "//! A file.\n";
    let with = |text: &str| format!("{header}{text}");
    let cases = [
        ("src/domain/x.rs", with("use crate::domain::id::Channel;\n"), ""),
        ("src/domain/x.rs", with("use crate::gateway::Fault;\n"), "domain::x may not import gateway::Fault"),
        ("src/gateway/x/mod.rs", with("use crate::{domain::id, runtime::{clock}};\n"), "runtime::clock"),
        ("src/gateway/x.rs", with("use super::super::server::error;\n"), "may not import server::error"),
        ("src/gateway/x.rs", with("fn f() {\n    crate::server::error::f();\n}\n"), "server::error"),
        ("src/gateway/x.rs", with("// crate::server is not for us.\n"), ""),
        ("src/runtime/x.rs", with("use crate::domain::{id::UnixMillis, money::Fen};\n"), "domain::money"),
        ("src/emulator/x.rs", with("use crate::server::config::Config;\n"), "may not import server::config"),
        ("src/emulator/demo.rs", with("use crate::server::config::Config;\n"), ""),
        ("src/server/api/x.rs", with("use super::super::pages::x;\n"), "may not import server::pages"),
        (
            "src/server/api/x.rs",
            with("use crate::server::store::Store;\n"),
            "may not import server::store::Store",
        ),
        (
            "src/server/api/x.rs",
            with("use crate::server::store::{Find, sqlite::X};\n"),
            "server::store::sqlite",
        ),
        ("src/server/api/mod.rs", with("use super::store::Find;\nuse self::x::Y;\nuse super::error;\n"), ""),
        ("src/server/json.rs", with("mod tests {\n    use super::super::error::Language;\n}\n"), ""),
        ("src/server/config/mod.rs", with("use crate::emulator::demo;\n"), "may not import emulator::demo"),
        ("src/ui/x.rs", with("use crate::server::checkout;\n"), "may not import server::checkout"),
        ("src/ui/x.rs", with("async fn f() {\n    use crate::server::checkout;\n}\n"), ""),
        ("src/ui/x.rs", with("#[cfg(feature = \"ssr\")]\nmod x;\n"), "cfg(feature) belongs in lib.rs"),
        ("src/lib.rs", with("#[cfg(feature = \"ssr\")]\npub mod server;\n"), ""),
        ("src/domain/x.rs", "use std::fmt;\n\nfn f() {}\n".to_owned(), "no //! header"),
        ("src/domain/x.rs", with(&"// line\n".repeat(FILE_LINES)), "601 lines"),
        ("src/domain/x.rs", with(&long_function), "function of 72 lines"),
        ("src/domain/x.rs", with(&page), ""),
        ("src/domain/x.rs", with(&format!("// {}\n", "长".repeat(COLUMNS))), "113 columns"),
        ("src/domain/x.rs", with(&format!("const X: &str = r#\"\n{}\n\"#;\n", "x".repeat(200))), ""),
        ("src/domain/x.rs", with(concat!("#[al", "low(dead_code)]\nfn f() {}\n")), "use expect"),
        ("src/domain/x.rs", with(concat!("#![al", "low(dead_code)]\nfn f() {}\n")), "use expect"),
        ("docs/x.md", format!("see {}x\n", BANNED[6]), "banned"),
        ("Makefile", format!("# {}: more\n", BANNED[0]), "banned"),
        ("docs/x.md", "long lines are fine in prose ".repeat(10), ""),
    ];
    for (name, text, wanted) in cases {
        let findings = check(name, &text);
        match wanted {
            "" => assert!(findings.is_empty(), "{name}\n{text}\n{findings:?}"),
            _ => assert!(
                findings.len() == 1 && findings[0].contains(wanted),
                "{name} {wanted}\n{text}\n{findings:?}"
            ),
        }
    }
    for word in BANNED {
        assert_eq!(check("docs/x.md", word).len(), 1, "{word}");
    }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            // The judges' Python environments are `.venv-NAME`.
            if !SKIPPED.contains(&name.as_str()) && !name.starts_with(".venv") {
                walk(&path, files);
            }
        } else if name == "Makefile"
            || path.extension().is_some_and(|ext| TEXTS.iter().any(|text| ext.eq_ignore_ascii_case(text)))
        {
            files.push(path);
        }
    }
}

/// Everything that is wrong with a file.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut say = |line: usize, what: String| findings.push(format!("{name}:{line}: {what}"));
    for (number, line) in numbered(text) {
        if let Some(word) = BANNED.iter().find(|word| line.contains(**word)) {
            say(number, format!("banned: {word}"));
        }
    }
    if Path::new(name).extension().is_none_or(|ext| ext != "rs") {
        return findings;
    }
    if !text.lines().take(3).any(|line| line.starts_with("//!")) {
        say(1, "no //! header".to_owned());
    }
    let length = text.lines().count();
    if length > FILE_LINES {
        say(length, format!("{length} lines, at most {FILE_LINES}"));
    }
    let mut raw = false;
    for (number, line) in numbered(text) {
        // Tables of tests stand in raw strings and may be wide.
        let was_raw = raw;
        raw = if raw { !line.contains("\"#") } else { line.contains("r#\"") && !line.contains("\"#;") };
        let columns = line.chars().count();
        // Rows of tables in documentation cannot be broken.
        if columns > COLUMNS && !was_raw && !raw && !line.starts_with("//! |") {
            say(number, format!("{columns} columns, at most {COLUMNS}"));
        }
        if line.contains(concat!("[al", "low(")) {
            say(number, "use expect with a reason".to_owned());
        }
        if name.starts_with("src/") && name != "src/lib.rs" && line.contains(concat!("cfg(", "feature")) {
            say(number, "cfg(feature) belongs in lib.rs".to_owned());
        }
    }
    for (number, lines) in long_functions(text) {
        say(number, format!("function of {lines} lines, at most {FUNCTION_LINES}"));
    }
    if let Some(module) = module_of(name) {
        for (number, module, import) in imports(&module, text) {
            if !may_import(&module, &import) {
                say(number, format!("{module} may not import {import}"));
            }
        }
    }
    findings
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// First line and length of each function that is too long. Counts on rustfmt: a function ends at the first
/// `}` that stands as deep as its `fn`. What stands inside `view!` does not count.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let end_of = |start: usize| {
        let depth = indent(lines[start]);
        lines[start..].iter().position(|line| indent(line) == depth && line.trim_start().starts_with('}'))
    };
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let is_function = line
            .trim_start()
            .split(' ')
            .take_while(|word| {
                word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe" | "fn")
            })
            .any(|word| word == "fn");
        if !is_function || line.trim_end().ends_with(';') {
            continue;
        }
        let Some(length) = end_of(start).map(|length| length + 1) else { continue };
        let mut counted = length;
        let mut at = start;
        while at < start + length {
            if lines[at].contains("view! {")
                && let Some(inside) = end_of(at)
            {
                counted -= inside.min(counted);
                at += inside;
            }
            at += 1;
        }
        if counted > FUNCTION_LINES {
            long.push((start + 1, counted));
        }
    }
    long
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// `src/server/api/orders.rs` is `server::api::orders`. None for what belongs to no module of the library.
fn module_of(name: &str) -> Option<String> {
    let path = name.strip_prefix("src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    (!matches!(path, "lib" | "main")).then(|| path.replace('/', "::"))
}

/// Line, importing module and imported path of everything of ours that is named, `crate::…` or `super::…`,
/// in `use` groups or in code.
fn imports(module: &str, text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let mut inside_tests = false;
    for (number, line) in numbered(text) {
        inside_tests |= line.starts_with("mod tests {");
        let mut here: Vec<&str> = module.split("::").collect();
        if inside_tests {
            here.push("tests");
        }
        let code = line.split("//").next().unwrap_or_default();
        let in_body = module.starts_with("ui::") && code.starts_with(' ');
        for root in ["crate::", "super::"] {
            for (at, _) in code.match_indices(root) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                    continue;
                }
                // Groups of `use` go over lines.
                let from = text.lines().take(number - 1).map(|line| line.len() + 1).sum::<usize>() + at;
                for path in expand(&text[from..]) {
                    let Some(path) = resolve(&here, &path) else { continue };
                    if !(in_body && path.starts_with("server")) {
                        found.push((number, here.join("::"), path));
                    }
                }
            }
        }
    }
    found
}

/// `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`.
fn expand(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let path = text[..end].trim_end_matches(':');
    if !text[end..].starts_with('{') || !text[..end].ends_with("::") {
        return vec![path.to_owned()];
    }
    let mut paths = Vec::new();
    let mut depth = 0;
    let mut at_item = false;
    for (offset, c) in text[end..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        match c {
            '{' | ',' if depth == 1 => at_item = true,
            c if at_item && !c.is_whitespace() => {
                paths.extend(expand(&text[end + offset..]).iter().map(|rest| format!("{path}::{rest}")));
                at_item = false;
            }
            _ => {}
        }
    }
    paths
}

/// The path from the root of the crate.
fn resolve(here: &[&str], path: &str) -> Option<String> {
    let mut base: Vec<&str> = Vec::new();
    let mut rest: Vec<&str> = path.split("::").collect();
    if rest[0] == "super" {
        base = here.to_vec();
        while rest.first() == Some(&"super") {
            base.pop()?;
            rest.remove(0);
        }
    } else {
        rest.remove(0);
    }
    base.extend(rest.into_iter().filter(|word| !word.is_empty() && *word != "self"));
    (!base.is_empty()).then(|| base.join("::"))
}

fn may_import(module: &str, import: &str) -> bool {
    let rule =
        MAY_IMPORT.iter().filter(|(prefix, _)| within(module, prefix)).max_by_key(|(prefix, _)| prefix.len());
    let Some((prefix, allowed)) = rule else {
        // A module without a rule, such as `server` itself, imports nothing.
        return within(import, module);
    };
    within(import, prefix)
        // A bare parent (`super::*` in tests) names nothing by itself.
        || within(prefix, import)
        || allowed.split_whitespace().any(|allowed| within(import, allowed))
}

/// Whether `path` is `prefix` or inside it.
fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
