// What a phone downloads: the first HTML, and wasm with its JS, must stay small. Past the limit this fails.
// Measured on what the demo really sends, since that is what counts.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { brotliDecompressSync } from 'node:zlib';
import { startDemo } from '../lib/demo.mjs';

const HTML_RAW = 30_000;
const WASM_AND_JS_BROTLI = 120_000;

let demo;
before(async () => { demo = await startDemo({ name: 'size' }); });
after(() => demo?.stop());

test(`the first HTML is at most ${HTML_RAW} bytes`, async () => {
  for (const query of ['?channel=wx', '?channel=ali']) {
    const { raw } = await get((await demo.order()).checkout_url + query);
    console.log(`    first HTML ${query}: ${raw.length} bytes`);
    assert.ok(raw.length <= HTML_RAW, `${raw.length} bytes`);
  }
});

test(`wasm and JS together are at most ${WASM_AND_JS_BROTLI} bytes as brotli`, async () => {
  const order = await demo.order();
  const html = (await get(order.checkout_url)).raw.toString();
  const paths = new Set([...html.matchAll(/["'(]([^"'() ]+\.(?:js|wasm))["')]/g)].map((match) => match[1]));
  assert.ok([...paths].some((path) => path.endsWith('.wasm')), `the page names its wasm: ${[...paths]}`);
  assert.ok([...paths].some((path) => path.endsWith('.js')), `the page names its JS: ${[...paths]}`);
  let total = 0;
  for (const path of paths) {
    const answer = await get(new URL(path, order.checkout_url), { 'accept-encoding': 'br, gzip' });
    assert.equal(answer.headers['content-encoding'], 'br', path);
    assert.ok(brotliDecompressSync(answer.raw).length > 0);
    assert.match(answer.headers['cache-control'] ?? '', /immutable/, path);
    console.log(`    ${path}: ${answer.raw.length} bytes`);
    total += answer.raw.length;
  }
  console.log(`    together: ${total} bytes`);
  assert.ok(total <= WASM_AND_JS_BROTLI, `${total} bytes`);
});

/** GET without decoding. */
function get(url, headers = {}) {
  return new Promise((resolve, reject) => {
    request(url, { headers }, async (response) => {
      const chunks = [];
      for await (const chunk of response) chunks.push(chunk);
      if (response.statusCode === 200) resolve({ raw: Buffer.concat(chunks), headers: response.headers });
      else reject(new Error(`${url}: ${response.statusCode}`));
    }).on('error', reject).end();
  });
}
