#!/usr/bin/env bash
# `make test`: installs what is missing, then every check. What fails fast comes first.
source "$(dirname "$0")/lib.sh"
step "install" bash .ci/install.sh test
bash .ci/lint.sh
step "cargo test" cargo test
step "build" bash .ci/build.sh
bash .ci/e2e.sh
printf '\n== everything passed in %d s\n' $SECONDS
