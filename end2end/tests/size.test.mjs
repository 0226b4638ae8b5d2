// What a shopper downloads must stay small, come from us alone, and run under a strict policy: the first HTML of every kind
// of page, and everything that the checkout needs. Measured on what the demo really sends, since that is what counts.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { brotliCompressSync, brotliDecompressSync } from 'node:zlib';
import { desktop, launch, phone } from '../lib/browser.mjs';
import { call, startDemo } from '../lib/demo.mjs';
import { awake, pair, sizes } from '../lib/states.mjs';

const HTML_RAW = 30_000;
const HTML_BROTLI = 10_000;
const ALL_BROTLI = 130_000;
const wechat = `${phone.userAgent} MicroMessenger/8.0.50.2701(0x28003255) NetType/WIFI Language/zh_CN`;

let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'size' }), launch()]);
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

const inTable = (name, ...sizes) => console.log(`    ${name.padEnd(44)}${sizes.map((size) => String(size).padStart(10)).join('')}`);

describe(`the first HTML is at most ${HTML_RAW} bytes, and ${HTML_BROTLI} as brotli`, () => {
  const agents = { desktop: 'Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Safari/537.36', phone: phone.userAgent };
  const queries = { desktop: ['?channel=wx', '?channel=ali', '?channel=ali&way=here', '?way=any'],
    phone: ['?channel=wx', '?channel=ali', '?channel=wx&way=scan', '?channel=ali&way=scan'] };
  for (const [device, asked] of Object.entries(queries)) {
    for (const query of asked) {
      test(`checkout, ${device} ${query}`, async () => {
        // As long as titles may be.
        const order = await demo.order({ title: '手冲咖啡与长长的名字'.repeat(25), return_url: 'https://mall.example.com/orders' });
        await small(`${device} ${query}`, order.checkout_url + query, { 'user-agent': agents[device] });
      });
    }
  }

  // Who is known by cookies only: the browser comes first.
  for (const [kind, device, go] of [
    ['wpay', { ...phone, userAgent: wechat }, async (page) => page.goto((await demo.order()).wpay_url)],
    ['pad', sizes.tablet, async (page) => {
      const at = { demo };
      await pair(page, at);
      await at.show();
      return page.reload();
    }],
  ]) {
    test(kind, async () => {
      const shopper = await browser.newContext({ ...device, javaScriptEnabled: false });
      try {
        const html = await (await go(await shopper.newPage())).body();
        limited(kind, html, brotliCompressSync(html));
      } finally {
        await shopper.close();
      }
    });
  }

  async function small(kind, url, headers) {
    const { raw } = await fetched(url, headers);
    const packed = await fetched(url, { ...headers, 'accept-encoding': 'br' });
    assert.equal(packed.headers['content-encoding'], 'br');
    limited(kind, raw, packed.raw);
  }

  function limited(kind, raw, packed) {
    inTable(kind, raw.length, packed.length);
    assert.ok(raw.length > 1_000 && raw.length <= HTML_RAW, `${raw.length} bytes`);
    assert.ok(packed.length <= HTML_BROTLI, `${packed.length} bytes as brotli`);
  }
});

test(`everything that the checkout loads is at most ${ALL_BROTLI} bytes as brotli`, async () => {
  for (const [name, query] of [['desktop', '?channel=ali'], ['phone', '?channel=wx']]) {
    const shopper = await browser.newContext(name === 'phone' ? phone : desktop);
    try {
      const page = await shopper.newPage();
      const loaded = new Set();
      page.on('request', (asked) => loaded.add(asked.url()));
      const order = await demo.order();
      await page.goto(order.checkout_url + query);
      await awake(page);
      // Chromium without a window asks for no icon; with one, for that of the state.
      for (const icon of ['/favicon.svg', '/favicon-paid.svg']) loaded.add(new URL(icon, demo.base).href);
      let total = 0;
      const files = [...loaded].filter((url) => !/\/(status|events)$/.test(new URL(url).pathname));
      for (const kind of [/\.css$/, /loader\..*js$/, /\.wasm$/]) assert.ok(files.some((url) => kind.test(url)), `${kind}: ${files}`);
      for (const url of files) {
        const { pathname } = new URL(url);
        const { raw, headers } = await fetched(url, { 'accept-encoding': 'br', 'user-agent': phone.userAgent });
        if (/\.(js|wasm)$/.test(pathname)) {
          assert.equal(headers['content-encoding'], 'br', pathname);
          assert.match(headers['cache-control'] ?? '', /immutable/, pathname);
        }
        const plain = headers['content-encoding'] === 'br' ? brotliDecompressSync(raw) : raw;
        inTable(pathname.startsWith('/pay/') ? 'the page' : pathname, plain.length, raw.length);
        total += raw.length;
      }
      inTable(`${name}, together`, '', total);
      assert.ok(total <= ALL_BROTLI, `${total} bytes`);
    } finally {
      await shopper.close();
    }
  }
});

test('nothing is asked of anybody else, and no policy is loose', async () => {
  const ours = new Set([demo.base, demo.emulator].map((url) => new URL(url).origin));
  for (const [kind, device, go] of [
    ['checkout', desktop, async (page) => page.goto((await demo.order()).checkout_url)],
    ['phone', phone, async (page) => page.goto((await demo.order()).checkout_url)],
    ['wpay', { ...phone, userAgent: wechat }, async (page) => page.goto((await demo.order()).wpay_url)],
    ['unknown', desktop, async (page) => page.goto(`${demo.base}/pay/nobody`)],
    ['pad, not paired', sizes.tablet, async (page) => page.goto(`${demo.base}/pad/demo`)],
    ['pad', sizes.tablet, async (page) => {
      const at = { demo };
      await pair(page, at);
      await at.show();
      return page.reload();
    }],
  ]) {
    const shopper = await browser.newContext(device);
    try {
      const page = await shopper.newPage();
      const asked = new Set();
      page.on('request', (one) => asked.add(one.url()));
      const answer = await go(page);
      await page.waitForLoadState('load');
      const foreign = [...asked].filter((url) => !url.startsWith('data:') && !ours.has(new URL(url).origin));
      assert.deepEqual(foreign, [], kind);
      assert.ok([...asked].some((url) => url.endsWith('.css')), kind);
      const policy = (await answer.allHeaders())['content-security-policy'];
      assert.match(policy, /default-src 'none'/, kind);
      assert.match(policy, /script-src 'nonce-[\w+/=-]{16,}'/, kind);
      assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'|\*|https?:/, kind);
    } finally {
      await shopper.close();
    }
  }
  // The answer to a form of the page is no page; what it leads to is.
  const order = await demo.order();
  const sent = await call('POST', order.checkout_url, 'do=confirm&channel=wx', { 'content-type': 'application/x-www-form-urlencoded', origin: demo.base });
  assert.equal(sent.status, 303);
  assert.ok(sent.headers.get('location').startsWith('/pay/'));
});

/** GET without decoding. */
function fetched(url, headers = {}) {
  return new Promise((resolve, reject) => {
    request(url, { headers }, async (response) => {
      const chunks = [];
      for await (const chunk of response) chunks.push(chunk);
      if (response.statusCode === 200) resolve({ raw: Buffer.concat(chunks), headers: response.headers });
      else reject(new Error(`${url}: ${response.statusCode}`));
    }).on('error', reject).end();
  });
}
