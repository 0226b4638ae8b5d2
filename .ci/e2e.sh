#!/usr/bin/env bash
# The browser tests and the judges, against target/release/shouyin. `e2e.sh pay` runs tests/pay.test.mjs alone.
source "$(dirname "$0")/lib.sh"
files=(end2end/tests/*.test.mjs)
judges=(end2end/judges/*.test.mjs)
if [ -n "${1:-}" ]; then
  mapfile -t files < <(printf '%s\n' "${files[@]}" "${judges[@]}" | grep "/$1.test.mjs")
  judges=()
  [ ${#files[@]} -gt 0 ] || { echo "no such test: $1"; exit 2; }
fi
# One file after the other: the tests measure times, and the machine may be small.
# A page that never comes must not hold everything up for good: ten minutes are twice what the longest file takes.
run=(node --test --test-reporter=spec --test-concurrency=1 --test-timeout=600000)
step "browser" "${run[@]}" "${files[@]}"
[ ${#judges[@]} -eq 0 ] || step "judges" "${run[@]}" "${judges[@]}"
