#!/usr/bin/env bash
# Installs what is missing, and nothing else: `install.sh run`, `install.sh lint` or `install.sh test`.
# Tools go into target/tools and end2end/; only system packages need root.
source "$(dirname "$0")/lib.sh"
for_what=${1:?run, lint or test}

cargo_deny_version=0.20.2 # newer ones want a newer rustc
wasm_bindgen_version=$(awk '$0 == "name = \"wasm-bindgen\"" { getline; gsub(/[^0-9.]/, ""); print }' Cargo.lock)

say() { printf 'install: %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

# The system packages that are missing, by what they are needed for.
missing_packages() {
  has cc || echo build-essential
  [ "$for_what" = test ] || return 0
  [ -n "${CHROMIUM:-}" ] || has chromium || echo chromium
  has zbarimg || echo zbar-tools
  has openssl || echo openssl
  has curl || echo curl
  has fc-list && fc-list :lang=zh-cn | grep -q . || echo fonts-noto-cjk
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

install_packages() {
  local packages
  packages=$(missing_packages | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
  if ! has apt-get || ! "${as_root[@]}" true 2>/dev/null; then
    say "system packages are missing, and installing them needs root. Please type:"
    say "    sudo apt-get update && sudo apt-get install --no-install-recommends $packages"
    say "(not on Debian or Ubuntu: the packages of the same purpose; CHROMIUM=path names any Chromium)"
    exit 1
  fi
  say "system packages: $packages"
  "${as_root[@]}" apt-get update -qq </dev/null
  # shellcheck disable=SC2086 # a list of words
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $packages </dev/null >/dev/null
}

install_rust_components() {
  [ "$for_what" = run ] && return 0
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

install_wasm_target() {
  local dir
  dir=$(rustc --print target-libdir --target wasm32-unknown-unknown)
  [ -d "$dir" ] && return 0
  say "the wasm target of the active toolchain"
  rustup target add wasm32-unknown-unknown
}

# The bindings must be made by exactly the version that the code was compiled with.
install_wasm_bindgen() {
  [ "$(wasm-bindgen --version 2>/dev/null)" = "wasm-bindgen $wasm_bindgen_version" ] && return 0
  say "wasm-bindgen $wasm_bindgen_version (once, some minutes)"
  cargo install --quiet --root target/tools wasm-bindgen-cli --version "$wasm_bindgen_version"
}

install_cargo_deny() {
  cargo deny --version >/dev/null 2>&1 && return 0
  say "cargo-deny $cargo_deny_version (once, some minutes)"
  cargo install --quiet --root target/tools --locked cargo-deny --version "$cargo_deny_version"
}

install_node_packages() {
  if ! has node || ! node -e 'const [a, b] = process.versions.node.split(".").map(Number);
      process.exit(a > 20 || (a === 20 && b >= 11) ? 0 : 1)'; then
    say "Node 20.11 or newer is needed (it runs wasm-opt and the browser tests)"
    exit 1
  fi
  cmp -s end2end/package-lock.json end2end/node_modules/.installed && return 0
  say "Node packages"
  (cd end2end && npm ci --no-progress --loglevel=error </dev/null)
  cp end2end/package-lock.json end2end/node_modules/.installed
}

# One environment for each judge: some of their packages write over each other.
install_python_judges() {
  local list venv
  for list in end2end/judges/requirements-*.txt; do
    venv=end2end/.venv-${list##*requirements-}
    venv=${venv%.txt}
    cmp -s "$list" "$venv/.installed" && continue
    say "Python packages of ${venv##*.venv-}"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$list" </dev/null
    cp "$list" "$venv/.installed"
  done
}

install_packages
install_wasm_target
install_rust_components
case $for_what in
  run) install_wasm_bindgen; install_node_packages ;;
  lint) install_cargo_deny ;;
  test) install_wasm_bindgen; install_cargo_deny; install_node_packages; install_python_judges ;;
  *) say "run, lint or test, not '$for_what'"; exit 2 ;;
esac
