//! The files that the configuration names: itself, keys and the server's secret. Never reads a secret
//! from a file that others may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::ConfigError;
use crate::gateway::keys::Secret;
use crate::runtime::random;

/// Why a file cannot be used, and what to do.
pub struct Unusable {
    pub problem: String,
    pub cure: String,
}

impl Unusable {
    fn new(problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { problem: problem.into(), cure: cure.into() }
    }
}

/// The configuration file as TOML.
pub fn table(path: &Path, file: &str) -> Result<toml::Table, ConfigError> {
    let error = |key: &str, problem: String, cure: &str| ConfigError {
        file: file.to_owned(),
        key: key.to_owned(),
        problem,
        cure: cure.to_owned(),
    };
    let text = fs::read_to_string(path).map_err(|cause| {
        error("the file", format!("cannot be read: {cause}"), "Name a file that is there with --config")
    })?;
    text.parse().map_err(|cause: toml::de::Error| {
        // Only the message: the excerpt that Display shows may hold a secret.
        let line = cause
            .span()
            .map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        let problem = format!("is not TOML: {}", cause.message().replace('\n', " "));
        error(&format!("line {line}"), problem, "Correct the line")
    })
}

/// A file that anybody may read, such as a certificate.
pub fn public(path: &str) -> Result<String, Unusable> {
    fs::read_to_string(path).map_err(|cause| {
        Unusable::new(format!("names {path}, which cannot be read: {cause}"), "Check the path")
    })
}

/// A file that only its owner may read, without the line end that editors leave.
pub fn secret(path: &str) -> Result<Secret, Unusable> {
    let unreadable = |cause: io::Error| {
        Unusable::new(format!("names {path}, which cannot be read: {cause}"), "Check the path")
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Unusable::new(
            format!("names {path}, which others may read (mode {:o})", mode & 0o777),
            format!("Type: chmod 600 {path}"),
        ));
    }
    let text = Secret::new(io::read_to_string(file).map_err(unreadable)?);
    Ok(Secret::new(text.expose().trim_end_matches(['\r', '\n'])))
}

/// The server's own secret, made at the first start.
pub fn own_secret(path: &str) -> Result<Secret, Unusable> {
    if !Path::new(path).exists() {
        create(path).map_err(|cause| {
            Unusable::new(
                format!("names {path}, which cannot be made: {cause}"),
                "Make its directory writable",
            )
        })?;
    }
    let secret = secret(path)?;
    if secret.expose().trim().len() < 32 {
        return Err(Unusable::new(
            format!("names {path}, which holds fewer than 32 characters"),
            format!("Delete {path}, a new one is made; links to open orders then end"),
        ));
    }
    Ok(secret)
}

/// All or nothing, and the first of several instances wins: written aside, then linked.
fn create(path: &str) -> io::Result<()> {
    let path = Path::new(path);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let random = random::bytes::<32>().map_err(io::Error::other)?;
    let aside = path.with_extension(format!("new{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let written = file
        .write_all(format!("{}\n", hex::encode(random)).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| match fs::hard_link(&aside, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    fs::remove_file(&aside)?;
    written
}
