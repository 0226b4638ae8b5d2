# Sourced by the scripts beside it: where things are, and steps that tell their time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/target/tools/bin:$PWD/end2end/node_modules/.bin:$PATH"

# step NAME COMMAND…: runs it, says how long it took, ends the script when it fails.
step() {
  local name=$1 from=$SECONDS code=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || code=$?
  if [ $code -ne 0 ]; then
    printf '== %s: FAILED (exit %d) after %d s\n' "$name" $code $((SECONDS - from))
    exit $code
  fi
  printf '== %s: ok, %d s\n' "$name" $((SECONDS - from))
}
