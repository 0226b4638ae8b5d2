// The checkout page as a program sees it: its headers, what it may not do, and what must not move anything.
// How it looks and behaves to people is in pay.test.mjs and accessible.test.mjs.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { call, startDemo } from '../lib/demo.mjs';

let demo;
before(async () => { demo = await startDemo({ name: 'pages' }); });
after(() => demo?.stop());

const trades = async (number) => (await demo.ledger()).trades.filter((trade) => trade.out_trade_no.startsWith(number));

test('HEAD never places an attempt, GET places one', async () => {
  const order = await demo.order();
  assert.equal((await call('HEAD', order.checkout_url)).status, 200);
  assert.deepEqual(await trades(order.order_number), []);
  for (let again = 0; again < 2; again += 1) {
    const { status, text } = await call('GET', `${order.checkout_url}?channel=wx`);
    assert.equal(status, 200);
    for (const part of ['12.34', 'A test', order.order_number, '<svg']) assert.ok(text.includes(part), part);
    assert.equal((await trades(order.order_number)).length, 1);
  }
});

test('the headers keep the page to itself', async () => {
  const { headers } = await call('GET', (await demo.order()).checkout_url);
  const policy = headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'|default-src 'self'/);
  assert.match(policy, /'nonce-/);
  assert.match(policy, /frame-ancestors/);
  assert.doesNotMatch(policy, /unsafe-inline|'unsafe-eval'|https?:\/\/[^ ]*cdn/);
  assert.equal(headers.get('referrer-policy'), 'strict-origin');
  assert.match(headers.get('cache-control'), /no-store/);
  assert.equal(headers.get('x-content-type-options'), 'nosniff');
});

test('the nonce is another one each time', async () => {
  const order = await demo.order();
  const nonce = async () => (await call('GET', order.checkout_url)).headers.get('content-security-policy').match(/'nonce-([^']+)'/)[1];
  assert.notEqual(await nonce(), await nonce());
});

test('the page capability is not the token, and shows nothing that is not for shoppers', async () => {
  const order = await demo.order({ buyer: 'buyer-secret', attach: 'attach-secret' });
  assert.ok(!order.checkout_url.includes(order.token));
  const { text } = await call('GET', order.checkout_url);
  for (const secret of [order.token, 'buyer-secret', 'attach-secret', demo.credentials.merchant.api_key]) assert.ok(!text.includes(secret));
});

test('what is not a capability is 404, and a page that says so', async () => {
  const order = await demo.order();
  const right = order.checkout_url.split('/').pop();
  for (const wrong of ['x', 'x'.repeat(500), `${right}x`, right.slice(0, -1), order.token, encodeURIComponent("'\"<script>")]) {
    for (const tail of ['', '/status', '/events']) {
      const { status, text } = await call('GET', `${demo.base}/pay/${wrong}${tail}`);
      assert.equal(status, 404, wrong + tail);
      assert.ok(!text.includes('<script>x'));
    }
  }
});

test('a form or a call from another site is refused', async () => {
  const order = await demo.order();
  for (const headers of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', origin: 'https://evil.example' }]) {
    const { status } = await call('POST', order.checkout_url, 'do=confirm&channel=wx',
      { 'content-type': 'application/x-www-form-urlencoded', ...headers });
    assert.equal(status, 403, JSON.stringify(headers));
  }
  const own = await call('POST', order.checkout_url, 'do=confirm&channel=wx',
    { 'content-type': 'application/x-www-form-urlencoded', origin: demo.base });
  assert.ok([200, 303].includes(own.status), `${own.status}`);
});

test('pages and status go out compressed when that is accepted, the stream never', async () => {
  const order = await demo.order();
  for (const encoding of ['br', 'gzip']) {
    const answer = await heads(order.checkout_url, { 'accept-encoding': encoding });
    assert.equal(answer['content-encoding'], encoding);
  }
  assert.equal((await heads(order.checkout_url, { 'accept-encoding': 'identity' }))['content-encoding'], undefined);
  const stream = await heads(`${order.checkout_url}/events`, { 'accept-encoding': 'br, gzip' });
  assert.match(stream['content-type'], /^text\/event-stream/);
  assert.equal(stream['content-encoding'], undefined);
  assert.equal(stream['x-accel-buffering'], 'no', 'a proxy must not keep it to itself');
});

test('the status says pending, then paid, and never more than a shopper may see', async () => {
  const order = await demo.order();
  const status = async () => (await call('GET', `${order.checkout_url}/status`)).json.data;
  assert.equal((await status()).state, 'pending');
  const { codeUrl } = (await demo.api('POST', '/rest/wx/push_order',
    { order_type: 'Order', order_number: order.order_number, type: 'NATIVE' })).json.data;
  await demo.pay(codeUrl, 3);
  for (let tries = 0; (await status()).state !== 'paid'; tries += 1) assert.ok(tries < 500, 'paid in the end');
  assert.ok(!JSON.stringify(await status()).includes('token'));
});

/** The headers of an answer; its body is not waited for, since a stream has no end. */
function heads(url, headers) {
  return new Promise((resolve, reject) => {
    const asked = request(url, { headers }, (response) => {
      resolve(response.headers);
      response.destroy();
    });
    asked.on('error', reject).end();
  });
}
