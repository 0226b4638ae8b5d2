//! How many files the process may have open: each connection is one, and so is each thing that the store and
//! the calls to gateways need. Never lets strangers' connections have them all.

use std::sync::LazyLock;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Kept from connections: for the store, the gateways, the malls and the log.
const KEPT: u64 = 256;
/// More connections than this are not taken however many files there may be.
const CONNECTIONS_MAX: u64 = 16_384;
/// With fewer the service stands still sooner than its memory would make it.
const FEW: u64 = 4_096;

/// The process's limit, raised once as far as the system lets it.
static OPEN_FILES: LazyLock<u64> = LazyLock::new(|| {
    let given = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: given.maximum, maximum: given.maximum };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => given.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            given.current
        }
    };
    now.unwrap_or(u64::MAX)
});

/// Files that the process may have open at once.
pub fn open_files() -> u64 {
    *OPEN_FILES
}

/// Connections that may be served at once, so that enough files are left for everything else.
pub fn for_connections() -> usize {
    usize::try_from(connections_of(open_files())).unwrap_or(usize::MAX)
}

/// What an operator should know about the limit; `None`: nothing.
pub fn advice() -> Option<String> {
    let files = open_files();
    (files < FEW).then(|| {
        let connections = connections_of(files);
        format!(
            "the system lets this process open {files} files, so at most {connections} connections are \
             served at once; raise it (ulimit -n, or LimitNOFILE= of systemd) to {}",
            CONNECTIONS_MAX + KEPT
        )
    })
}

fn connections_of(files: u64) -> u64 {
    files.saturating_sub(KEPT).max(files / 2).min(CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_have_all_the_files() {
        for (files, connections) in
            [(0, 0), (64, 32), (1_024, 768), (4_096, 3_840), (1_048_576, 16_384), (u64::MAX, 16_384)]
        {
            assert_eq!(connections_of(files), connections, "{files}");
        }
    }
}
