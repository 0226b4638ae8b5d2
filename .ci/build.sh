#!/usr/bin/env bash
# Builds the site (wasm, style, files) and then the one binary that holds it.
source "$(dirname "$0")/lib.sh"
bash .ci/site.sh
cargo build --release
