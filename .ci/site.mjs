// Puts the site together: `node site.mjs WORK SITE`. Names of files under pkg/ hold a hash of their
// content, so browsers may keep them for ever; manifest.json maps the plain names to them. Scripts
// are minified.
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, extname, basename } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { createRequire } from 'node:module';

// Installed beside the browser tests, like wasm-opt.
const { minify } = createRequire(new URL('../end2end/package.json', import.meta.url))('terser');

const [work, site] = process.argv.slice(2);
rmSync(site, { recursive: true, force: true });
mkdirSync(join(site, 'pkg'), { recursive: true });

const compress = (path, bytes) => {
  const brotli = brotliCompressSync(bytes, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
  });
  writeFileSync(`${path}.br`, brotli);
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  return brotli.length;
};

const files = (folder) =>
  readdirSync(folder).map((name) => join(folder, name)).filter((path) => statSync(path).isFile());

const manifest = {};
const add = (path, bytes) => {
  const hash = createHash('sha256').update(bytes).digest('hex').slice(0, 12);
  const extension = extname(path);
  const hashed = `${basename(path, extension)}.${hash}${extension}`;
  writeFileSync(join(site, 'pkg', hashed), bytes);
  const brotli = compress(join(site, 'pkg', hashed), bytes);
  manifest[basename(path)] = `/pkg/${hashed}`;
  console.log(`${String(bytes.length).padStart(8)} B  ${String(brotli).padStart(7)} B br  ${hashed}`);
};

const minified = async (text) =>
  Buffer.from((await minify(text, { module: true, compress: { passes: 3 } })).code);

for (const path of [...files(work), ...files('style')].sort()) {
  const bytes = readFileSync(path);
  add(path, path.endsWith('.js') ? await minified(bytes.toString()) : bytes);
}
// Scripts of our own name what they load by a placeholder: SHOUYIN_JS, SHOUYIN_WASM.
for (const path of files('src/ui').filter((path) => path.endsWith('.js')).sort()) {
  const text = readFileSync(path, 'utf8').replace(/SHOUYIN_(JS|WASM)/g, (_, kind) =>
    basename(manifest[`shouyin.${kind.toLowerCase()}`]));
  add(path, await minified(text));
}
cpSync('public', site, { recursive: true });
writeFileSync(join(site, 'manifest.json'), JSON.stringify(manifest, null, 2) + '\n');
