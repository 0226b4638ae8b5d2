#!/usr/bin/env bash
# Format, lints, licences and docs: everything that judges the text and runs none of it.
source "$(dirname "$0")/lib.sh"

# The advisory database is fetched from a git host, which not every machine reaches: say so, don't pass silently.
advisories() {
  if timeout 90 cargo deny --log-level off fetch db </dev/null >/dev/null 2>&1; then
    cargo deny check advisories
  else
    echo "advisories NOT checked: their database cannot be fetched from this machine"
  fi
}

step "format" cargo fmt --check
step "clippy, server" cargo clippy --quiet --all-targets -- -D warnings
step "clippy, browser" cargo clippy --quiet --lib --no-default-features --features hydrate \
  --target wasm32-unknown-unknown -- -D warnings
step "deny: bans, licences, sources" cargo deny check bans licenses sources
step "deny: advisories" advisories
RUSTDOCFLAGS="-D warnings" step "documentation" cargo doc --quiet --document-private-items --no-deps
