// Refused input: each refusal is a line of docs/errors.md, names the field in the asker's language, and changes nothing.
// "Nothing" is judged from outside: the orders, the events and the emulator's ledger before and after.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { orderNumber, root, startDemo, until } from '../lib/demo.mjs';

let demo;
let open; // an order that can be paid
let other; // another one, whose token opens nothing of the first
let paid;
let closed;
const documented = readFileSync(join(root, 'docs/errors.md'), 'utf8');

before(async () => {
  demo = await startDemo({ name: 'bad-input' });
  [open, other, paid, closed] = [await demo.order(), await demo.order(), await demo.order(), await demo.order()];
  const { codeUrl } = (await demo.api('POST', '/rest/wx/push_order', pushBody(paid))).json.data;
  await demo.pay(codeUrl);
  await until('paid', async () => (await demo.orderNow(paid.order_number)).state === 'paid');
  await demo.api('POST', `/rest/orders/Order/${closed.order_number}/close`);
  await until('closed', async () => (await demo.orderNow(closed.order_number)).state === 'closed');
});
after(() => demo?.stop());

const pushBody = (order, more = {}) => ({ order_type: 'Order', order_number: order.order_number, type: 'NATIVE', ...more });
const orderBody = (more = {}) => ({ order_type: 'Order', order_number: orderNumber('B'), title: 'x', total_fee: 1, ...more });
const wx = (body, more) => ({ method: 'POST', path: '/rest/wx/push_order', body, ...more });
const ali = (body, more) => ({ method: 'POST', path: '/rest/ali/push_order', body, ...more });
const make = (body, more) => ({ method: 'POST', path: '/rest/orders', body, ...more });
const refund = (order, more = {}) => ({ method: 'POST', path: `/rest/orders/Order/${order.order_number}/refunds`,
  body: { refund_number: 'R1', amount: 1, ...more } });
const get = (path, more) => ({ method: 'GET', path, ...more });

// What is asked | HTTP status | name | the field that the sentence names.
// Functions, because the orders are made when the demo runs.
const table = [
  ['malformed JSON', () => wx('{"order_type":"Order",'), 400, 'malformed_json'],
  ['an empty body', () => wx(''), 400, 'malformed_json'],
  ['text after the JSON', () => wx(`${JSON.stringify(pushBody(open))}x`), 400, 'malformed_json'],
  ['bytes that are not UTF-8', () => wx(new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d])), 400, 'malformed_json'],
  ['nesting without end', () => wx('['.repeat(30_000)), 400, 'malformed_json'],
  ['a list for an object', () => wx('[]'), 400, 'wrong_type'],
  ['a duplicate key', () => wx('{"order_type":"Order","order_number":"1","order_number":"2","type":"NATIVE"}'), 400,
    'duplicate_key', 'order_number'],
  ['a duplicate key in a new order', () => make('{"order_type":"Order","order_number":"1","title":"x","total_fee":1,"total_fee":2}'),
    400, 'duplicate_key', 'total_fee'],
  ['a number for a string', () => wx(pushBody(open, { order_number: 12346 })), 400, 'wrong_type', 'order_number'],
  ['null for a string', () => wx(pushBody(open, { order_type: null })), 400, 'wrong_type', 'order_type'],
  ['a missing field', () => wx({ order_type: 'Order', type: 'NATIVE' }), 400, 'missing_field', 'order_number'],
  ['an unknown order_type', () => wx(pushBody(open, { order_type: 'Gift' })), 400, /not_allowed|invalid_value/, 'order_type'],
  ['order_type in another case', () => wx(pushBody(open, { order_type: 'order' })), 400, /not_allowed|invalid_value/, 'order_type'],
  ['WeChat: type JSAPI', () => wx(pushBody(open, { type: 'JSAPI' })), 400, 'not_allowed', 'type'],
  ['WeChat: type QRCODE', () => wx(pushBody(open, { type: 'QRCODE' })), 400, 'not_allowed', 'type'],
  ['Alipay: type NATIVE', () => ali(pushBody(open)), 400, 'not_allowed', 'type'],
  ['an unknown order', () => wx(pushBody({ order_number: 'nobody' })), 404, 'order_not_found'],
  ['an order of another type', () => wx(pushBody(open, { order_type: 'Wallet' })), 404, 'order_not_found'],
  ['a paid order', () => wx(pushBody(paid)), 409, 'order_paid'],
  ['a paid order at the other gateway', () => ali(pushBody(paid, { type: 'QRCODE' })), 409, 'order_paid'],
  ['a closed order', () => wx(pushBody(closed)), 409, 'order_closed'],
  ['a wrong token', () => wx(pushBody(open), { key: 'nonsense' }), 401, 'key_wrong'],
  ['a wrong Bearer token', () => wx(pushBody(open), { key: 'Bearer nonsense' }), 401, 'key_wrong'],
  ['a token of another order', () => wx(pushBody(open), { key: other.token }), 403, 'foreign_capability'],
  ['the page capability in place of the token', () => wx(pushBody(open), { key: open.checkout_url.split('/').pop() }), 401,
    'key_wrong'],
  ['order_number with a space', () => wx(pushBody({ order_number: 'a b' })), 400, 'invalid_value', 'order_number'],
  ['order_number with a quote', () => wx(pushBody({ order_number: "a'--" })), 400, 'invalid_value', 'order_number'],
  ['order_number in Chinese', () => wx(pushBody({ order_number: '订单' })), 400, 'invalid_value', 'order_number'],
  ['order_number of 33 characters', () => wx(pushBody({ order_number: 'x'.repeat(33) })), 400, 'invalid_value', 'order_number'],
  ['an empty order_number', () => wx(pushBody({ order_number: '' })), 400, 'invalid_value', 'order_number'],
  ['a body over 64 KiB', () => wx(JSON.stringify(pushBody(open, { more: 'x'.repeat(65_536) }))), 413, 'body_too_large'],
  ['a body over 64 KiB without a length', () => wx(new Blob(['x'.repeat(200_000)]).stream()), 413, 'body_too_large'],

  ['a new order without a key', () => make(orderBody(), { key: null }), 401, 'key_missing'],
  ['a new order with a wrong key', () => make(orderBody(), { key: 'nonsense' }), 401, 'key_wrong'],
  ["a new order with an order's token", () => make(orderBody(), { key: open.token }), /401|403/, /key_wrong|foreign_capability/],
  ['total_fee 0', () => make(orderBody({ total_fee: 0 })), 400, 'out_of_range', 'total_fee'],
  ['total_fee negative', () => make(orderBody({ total_fee: -1 })), 400, 'out_of_range', 'total_fee'],
  ['total_fee a fraction', () => make(orderBody({ total_fee: 1.5 })), 400, 'wrong_type', 'total_fee'],
  ['total_fee 1.0', () => make(JSON.stringify(orderBody()).replace('"total_fee":1', '"total_fee":1.0')), 400, 'wrong_type',
    'total_fee'],
  ['total_fee as text', () => make(orderBody({ total_fee: '1' })), 400, 'wrong_type', 'total_fee'],
  ['total_fee above 10^10', () => make(orderBody({ total_fee: 10_000_000_001 })), 400, 'out_of_range', 'total_fee'],
  ['total_fee beyond 64 bits', () => make(JSON.stringify(orderBody()).replace('"total_fee":1', '"total_fee":99999999999999999999')),
    400, /out_of_range|wrong_type|malformed_json/],
  ['total_fee 1e400', () => make(JSON.stringify(orderBody()).replace('"total_fee":1', '"total_fee":1e400')), 400,
    /out_of_range|wrong_type|malformed_json/],
  ['a title with NUL', () => make(orderBody({ title: 'a\u0000b' })), 400, 'invalid_value', 'title'],
  ['a title with a line break', () => make(orderBody({ title: 'a\nb' })), 400, 'invalid_value', 'title'],
  ['a title with a C1 control', () => make(orderBody({ title: 'a\u0085b' })), 400, 'invalid_value', 'title'],
  ['a title of 257 characters', () => make(orderBody({ title: '字'.repeat(257) })), 400, 'invalid_value', 'title'],
  ['an empty title', () => make(orderBody({ title: '' })), 400, 'invalid_value', 'title'],
  ['a lone surrogate in a title', () => make(JSON.stringify(orderBody()).replace('"x"', '"\\ud800"')), 400, 'malformed_json'],
  ['expires_in 59', () => make(orderBody({ expires_in: 59 })), 400, 'out_of_range', 'expires_in'],
  ['expires_in 604801', () => make(orderBody({ expires_in: 604_801 })), 400, 'out_of_range', 'expires_in'],
  ['return_url javascript:', () => make(orderBody({ return_url: 'javascript:alert(1)' })), 400, 'invalid_value', 'return_url'],
  ['return_url relative', () => make(orderBody({ return_url: '/back' })), 400, 'invalid_value', 'return_url'],
  ['buyer of 128 bytes', () => make(orderBody({ buyer: 'x'.repeat(128) })), 400, 'invalid_value', 'buyer'],
  ['attach of 128 bytes', () => make(orderBody({ attach: '字'.repeat(43) })), 400, 'invalid_value', 'attach'],
  ['an unknown locale', () => make(orderBody({ locale: 'tlh' })), 400, 'not_allowed', 'locale'],
  ['a field that does not exist', () => make(orderBody({ totalfee: 1 })), 400, 'unknown_field', 'totalfee'],
  ['another amount for the same number', () => make(orderBody({ order_number: open.order_number, title: 'A test', total_fee: 1235 })),
    409, 'order_different', 'total_fee'],
  ['another title for the same number', () => make(orderBody({ order_number: open.order_number, title: 'B', total_fee: 1234 })),
    409, 'order_different', 'title'],

  ['reading an unknown order', () => get('/rest/orders/Order/nobody'), 404, 'order_not_found'],
  ['reading without a key', () => get(`/rest/orders/Order/${open.order_number}`, { key: null }), 401, 'key_missing'],
  ['reading with a token of another order', () => get(`/rest/orders/Order/${open.order_number}`, { key: other.token }), 403,
    'foreign_capability'],
  ['reading an order_type that does not exist', () => get(`/rest/orders/Gift/${open.order_number}`), 400,
    /not_allowed|invalid_value/, 'order_type'],
  ['the list with an unknown state', () => get('/rest/orders?state=lost'), 400, 'not_allowed', 'state'],
  ['closing a paid order', () => ({ method: 'POST', path: `/rest/orders/Order/${paid.order_number}/close` }), 409, 'order_paid'],
  ['closing with a token', () => ({ method: 'POST', path: `/rest/orders/Order/${open.order_number}/close`, key: open.token }),
    /401|403/, /key_wrong|foreign_capability/],

  ['a refund of an open order', () => refund(open), 409, 'order_not_paid'],
  ['a refund of an unknown order', () => refund({ order_number: 'nobody' }), 404, 'order_not_found'],
  ['a refund above what was paid', () => refund(paid, { amount: 1235 }), 409, 'refund_too_much'],
  ['a refund of 0', () => refund(paid, { amount: 0 }), 400, 'out_of_range', 'amount'],
  ['a refund of a fraction', () => refund(paid, { amount: 0.5 }), 400, 'wrong_type', 'amount'],
  ['a refund without an amount', () => refund(paid, { amount: undefined }), 400, 'missing_field', 'amount'],
  ['a refund_number with a slash', () => refund(paid, { refund_number: 'a/b' }), 400, 'invalid_value', 'refund_number'],
  ['a refund_number of 65 characters', () => refund(paid, { refund_number: 'x'.repeat(65) }), 400, 'invalid_value', 'refund_number'],
  ['a reason of 81 bytes', () => refund(paid, { reason: '字'.repeat(27) }), 400, 'invalid_value', 'reason'],
  ['a refund of money that never came', () => refund(paid, { transaction_id: 'nobody' }), 404, 'payment_not_found'],
  ['a refund with a field that does not exist', () => refund(paid, { total: 1 }), 400, 'unknown_field', 'total'],
  ["a refund with the order's token", () => ({ ...refund(paid), key: paid.token }), 403, 'foreign_capability'],
  ['a refund without a key', () => ({ ...refund(paid), key: null }), 401, 'key_missing'],
  ['reading an unknown refund', () => get(`/rest/orders/Order/${paid.order_number}/refunds/nobody`), 404, 'refund_not_found'],
  ['reading an unknown event', () => get('/rest/events/nobody'), 404, 'event_not_found'],
  ['sending an unknown event again', () => ({ method: 'POST', path: '/rest/events/nobody/resend' }), 404, 'event_not_found'],
  ["sending an event again with an order's token", () => ({ method: 'POST', path: '/rest/events/nobody/resend', key: open.token }), 403,
    'foreign_capability'],

  ['an address that does not exist', () => get('/rest/nothing'), 404, 'unknown_route'],
  ['a method that is not taken', () => get('/rest/wx/push_order'), 405, 'method_not_allowed'],
];

describe('refused, by the table', () => {
  for (const [what, ask, status, name, field] of table) {
    test(what, async () => {
      const was = await everything();
      for (const language of ['zh-CN', 'en']) {
        const { method, path, body, key } = ask();
        const answer = await send(method, path, body, { key, headers: { 'accept-language': language } });
        const said = `${answer.status} ${answer.text}`;
        assert.match(String(answer.status), new RegExp(`^(${status.source ?? status})$`), said);
        assert.deepEqual(Object.keys(answer.json).sort(), ['error', 'message', 'status_code'], said);
        assert.match(answer.json.error, new RegExp(`^(${name.source ?? name})$`), said);
        assert.notEqual(answer.json.status_code, 0);
        assert.ok(isDocumented(answer), `a line of docs/errors.md: ${said}`);
        if (field) assert.ok(answer.json.message.includes(field), `names ${field}: ${said}`);
        const chinese = /[\u4e00-\u9fff]/.test(answer.json.message.replaceAll('订单', (word) => (language === 'en' ? '' : word)));
        assert.equal(chinese, language === 'zh-CN', `in ${language}: ${said}`);
      }
      assert.deepEqual(await everything(), was, 'nothing changed');
    });
  }
});

describe('taken, although it looks odd', () => {
  test('emoji, 256 characters and what Alipay does not take in a title', async () => {
    for (const title of ['🧧 红包 🎉', '字'.repeat(256), 'a=b&c/d', '🎉🎉🎉']) {
      const order = await demo.order({ title });
      assert.equal((await demo.orderNow(order.order_number)).title, title);
      assert.equal((await demo.api('POST', '/rest/wx/push_order', pushBody(order))).status, 200);
      for (const type of ['QRCODE', 'APP']) {
        const answer = await demo.api('POST', '/rest/ali/push_order', pushBody(order, { type }));
        assert.equal(answer.status, 200, `${title}: ${answer.text}`);
      }
    }
  });

  test('any Content-Type, a Bearer key, and a call without a key where the merchant allows it', async () => {
    for (const more of [{ headers: { 'content-type': 'text/plain' } }, { key: `Bearer ${open.token}` }, { key: null }]) {
      const answer = await demo.api('POST', '/rest/wx/push_order', JSON.stringify(pushBody(open)), more);
      assert.equal(answer.status, 200, answer.text);
    }
  });

  test('the same order again: the same answer and the same token', async () => {
    const again = await demo.api('POST', '/rest/orders',
      { order_type: 'Order', order_number: open.order_number, title: 'A test', total_fee: 1234 });
    assert.equal(again.status, 200);
    assert.equal(again.json.data.token, open.token);
    assert.equal(again.json.data.checkout_url, open.checkout_url);
  });

  test('the same number under each order_type', async () => {
    const order_number = orderNumber('S');
    for (const order_type of ['Order', 'Wallet', 'Appointment']) {
      const order = await demo.order({ order_type, order_number });
      const answer = await demo.api('POST', '/rest/wx/push_order', pushBody(order, { order_type }));
      assert.equal(answer.status, 200, answer.text);
    }
  });
});

test('a megabyte is answered although it was not asked for', async () => {
  const answer = await raw('POST /rest/wx/push_order HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\nconnection: close\r\n\r\n'
    + 'x'.repeat(1_000_000));
  assert.match(answer, /^HTTP\/1.1 413 /);
});

test('what is not HTTP at all does no harm', async () => {
  for (const bytes of ['\0\0\0\0\r\n\r\n', 'GET\r\n\r\n', `GET /${'x'.repeat(100_000)} HTTP/1.1\r\n\r\n`,
    'POST /rest/orders HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n']) {
    await raw(bytes);
  }
  assert.equal((await demo.orderNow(open.order_number)).state, 'pending');
});

/** What a refusal must leave as it was. */
async function everything() {
  const [orders, events, ledger] = await Promise.all([
    demo.api('GET', '/rest/orders'), demo.api('GET', '/rest/events?after='), demo.ledger()]);
  assert.equal(orders.status, 200);
  assert.equal(events.status, 200);
  // How far a delivery is changes by itself.
  const told = events.json.data.events.map(({ delivery: _, ...event }) => event);
  return { orders: orders.json.data.orders, events: told, trades: ledger.trades, refunds: ledger.refunds };
}

/** Like demo.api; `key: null` sends none, a stream goes out in chunks. */
async function send(method, path, body, { key = demo.credentials.merchant.api_key, headers }) {
  if (!(body instanceof ReadableStream)) return demo.api(method, path, body, { key, headers });
  const response = await fetch(demo.base + path, { method, body, duplex: 'half', headers: { ...headers, authorization: key } });
  const text = await response.text();
  return { status: response.status, text, json: JSON.parse(text) };
}

function isDocumented({ status, json }) {
  return documented.split('\n').some((line) => {
    const words = line.replaceAll(/[|`]/g, ' ').split(/\s+/);
    return [String(json.status_code), json.error, String(status)].every((word) => words.includes(word));
  });
}

/** Sends bytes as they are; answers what came back until the other side closed, or 3 s were over. */
function raw(bytes) {
  return new Promise((resolve) => {
    const { hostname, port } = new URL(demo.base);
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    let answer = '';
    socket.setTimeout(3000, () => socket.destroy());
    socket.on('data', (chunk) => { answer += chunk; });
    socket.on('error', () => {}); // cut off: that is an answer, too
    socket.on('close', () => resolve(answer));
  });
}
