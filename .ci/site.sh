#!/usr/bin/env bash
# Builds target/site: the islands as wasm, their bindings, styles and public files, with hashed names
# and precompressed. Does nothing when none of its sources changed. `install.sh run` comes before it.
source "$(dirname "$0")/lib.sh"

site=target/site
# Everything the result depends on; the server's own code is not part of the wasm.
stamp=$(git ls-files -z --cached --others --exclude-standard -- Cargo.toml Cargo.lock src/lib.rs src/domain \
  src/ui style public .ci/site.sh .ci/site.mjs | sort -z | xargs -0 -r sha256sum | sha256sum)
[ "$(cat "$site.stamp" 2>/dev/null)" = "$stamp" ] && [ -f "$site/manifest.json" ] && exit 0

cargo build --lib --profile wasm-release --no-default-features --features hydrate \
  --target wasm32-unknown-unknown
work=target/site.work
rm -rf "$work"
wasm-bindgen --target web --no-typescript --out-dir "$work" --out-name shouyin \
  target/wasm32-unknown-unknown/wasm-release/shouyin.wasm
# Flat code first: both passes then find more, 1 % of what is downloaded.
wasm-opt --flatten --rereloop -Oz -Oz --strip-debug --strip-producers "$work/shouyin_bg.wasm" -o "$work/shouyin.wasm"
rm "$work/shouyin_bg.wasm"
node .ci/site.mjs "$work" "$site"
printf '%s\n' "$stamp" >"$site.stamp"
