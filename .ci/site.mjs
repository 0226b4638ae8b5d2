// Puts the site together: `node site.mjs WORK SITE`. Names of files under pkg/ hold a hash of their
// content, so browsers may keep them for ever; manifest.json maps the plain names to them. Never
// changes a file's content.
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, extname, basename } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

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

for (const path of [...files(work), ...files('style')].sort()) add(path, readFileSync(path));
// Scripts of our own name what they load by a placeholder: SHOUYIN_JS, SHOUYIN_WASM.
for (const path of files('src/ui').filter((path) => path.endsWith('.js')).sort()) {
  const text = readFileSync(path, 'utf8').replace(/SHOUYIN_(JS|WASM)/g, (_, kind) =>
    basename(manifest[`shouyin.${kind.toLowerCase()}`]));
  add(path, Buffer.from(text));
}
cpSync('public', site, { recursive: true });
writeFileSync(join(site, 'manifest.json'), JSON.stringify(manifest, null, 2) + '\n');
