#!/usr/bin/env bash
# `make test`: installs what is missing, then every check. What fails fast comes first.
source "$(dirname "$0")/lib.sh"
step "install" bash .ci/install.sh test
bash .ci/lint.sh
step "cargo test" cargo test
step "build" bash .ci/build.sh
# Before the browsers, which want the machine for themselves, too.
step "torture" target/release/shouyin torture
bash .ci/e2e.sh
printf '\n== everything passed in %d s\n' $SECONDS
