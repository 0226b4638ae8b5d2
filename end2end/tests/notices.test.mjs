// Notices that come often, together, or with trouble, and a crash between a notice and its webhook:
// the money counts once, and the mall hears of it under one id. The ledger is the judge.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import { call, startDemo, until } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';

const channels = ['wx', 'ali'];

/** Pushes an order and answers the code that a phone would scan. */
async function push(demo, order, channel) {
  const type = channel === 'wx' ? 'NATIVE' : 'QRCODE';
  const answer = await demo.api('POST', `/rest/${channel}/push_order`,
    { order_type: order.order_type, order_number: order.order_number, type });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.data.codeUrl ?? answer.json.data.qr_code;
}

/** Every try to deliver a notice about this payment. */
async function noticeAttempts(demo, outTradeNo) {
  const { notices } = await demo.ledger();
  return notices.filter((notice) => notice.out_trade_no === outTradeNo).flatMap((notice) => notice.attempts);
}

describe('64 parallel copies of one notice', () => {
  let demo;
  before(async () => { demo = await startDemo({ name: 'copies' }); });
  after(() => demo?.stop());

  for (const channel of channels) {
    test(`${channel}: one settlement, 64 acknowledgements, one webhook event`, async () => {
      const order = await demo.order();
      const paid = await demo.pay(await push(demo, order, channel), 64);
      const attempts = await until('64 tries', async () => {
        const made = await noticeAttempts(demo, paid.out_trade_no);
        return made.length >= 64 && made;
      });
      assert.equal(attempts.length, 64);
      assert.deepEqual(attempts.filter((attempt) => !attempt.accepted), [], 'each copy was acknowledged');

      const now = await demo.orderNow(order.order_number);
      assert.equal(now.state, 'paid');
      assert.equal(now.paid_fee, 1234);
      assert.equal(now.payments.length, 1);
      assert.deepEqual(now.anomalies, []);
      assert.equal(now.version, order.version + 1, 'one change of state');
      const told = await eventsOf(demo, order.order_number);
      assert.equal(told.length, 1);
      assert.equal(told[0].type, 'order.paid');
      const listed = await until('the mall knows', () => atMall(demo, order.order_number));
      assert.equal(listed.state, 'paid');
      assert.deepEqual(listed.events.map(({ id, type }) => ({ id, type })), [{ id: told[0].id, type: 'order.paid' }]);
    });
  }
});

/** All events about one order, from the catch-up list. */
async function eventsOf(demo, number) {
  const events = [];
  for (let after = 0; ;) {
    const page = (await demo.api('GET', `/rest/events?after=${after}`)).json.data;
    if (page.events.length === 0) return events.filter((event) => orderOf(event.payload) === number);
    events.push(...page.events);
    after = page.after;
  }
}

function orderOf(payload) {
  return payload.data?.order_number ?? payload.order_number;
}

describe('kill -9 between the notice and its webhook', () => {
  for (const channel of channels) {
    for (const mall of ['down', 'hanging']) {
      test(`${channel}, the mall ${mall}: after the restart the webhook arrives, one id, the same bytes`, async () => {
        let receiver = await startReceiver({ answer: () => 'hang' });
        const { url } = receiver;
        const seen = receiver.requests;
        if (mall === 'down') await receiver.stop();
        const demo = await startDemo({ name: `crash-${channel}-${mall}`, webhookUrl: `${url}/hook` });
        try {
          const order = await demo.order();
          const paid = await demo.pay(await push(demo, order, channel));
          await until('the notice is acknowledged', async () =>
            (await noticeAttempts(demo, paid.out_trade_no)).some((attempt) => attempt.accepted));
          if (mall === 'hanging') await until('the webhook was sent once', () => seen.length > 0);
          await demo.kill9();

          if (mall === 'hanging') await receiver.stop();
          receiver = await startReceiver({ port: Number(new URL(url).port) });
          await demo.start();
          assert.equal((await demo.orderNow(order.order_number)).state, 'paid', 'what was acknowledged is kept');
          await arrives(demo, () => receiver.requests.length > 0);
          await checkWebhooks(demo, order, [...seen, ...receiver.requests]);
        } finally {
          await demo.stop();
          await receiver.stop();
        }
      });
    }
  }

  test("killed at any moment after the payment: one effect at the demo's mall, which was killed, too", async () => {
    const demo = await startDemo({ name: 'crash-mall' });
    try {
      for (const wait of [0, 3, 6, 12, 25]) {
        for (const channel of channels) {
          const order = await demo.order();
          await demo.pay(await push(demo, order, channel));
          await sleep(wait);
          await demo.kill9();
          await demo.start();
          await arrives(demo, () => atMall(demo, order.order_number));
          const listed = await atMall(demo, order.order_number);
          assert.equal(listed.state, 'paid');
          assert.equal(listed.events.length, 1, JSON.stringify(listed));
          assert.equal((await demo.orderNow(order.order_number)).payments.length, 1);
        }
      }
    } finally {
      await demo.stop();
    }
  });

  test('killed at any moment after the payment: paid once, told under one id', async () => {
    const receiver = await startReceiver();
    const demo = await startDemo({ name: 'crash-any', webhookUrl: `${receiver.url}/hook` });
    try {
      for (const wait of [0, 2, 5, 10, 20, 40]) {
        for (const channel of channels) {
          const order = await demo.order();
          await demo.pay(await push(demo, order, channel));
          await sleep(wait);
          await demo.kill9();
          await demo.start();
          await arrives(demo, () => receiver.requests.some((request) => isAbout(request, order)));
          await checkWebhooks(demo, order, receiver.requests.filter((request) => isAbout(request, order)));
        }
      }
    } finally {
      await demo.stop();
      await receiver.stop();
    }
  });
});

/** The demo mall's entry of an order; it knows those made by API once a webhook came. */
async function atMall(demo, number) {
  const { json } = await call('GET', `${demo.base}/mall/orders.json`);
  return json.orders.find((order) => order.order_number === number);
}

/** Waits, and after a while moves the clock ahead to the next try of whoever still has one to make. */
async function arrives(demo, there) {
  for (let round = 0; round < 6; round += 1) {
    try {
      return await until('the webhook', there, { within: 3000 });
    } catch {
      await demo.advance(60_000);
    }
  }
  throw new Error('the webhook never arrived');
}

function isAbout(request, order) {
  return orderOf(JSON.parse(request.body.toString())) === order.order_number;
}

/** One id, the same bytes each time, a signature that a stock library verifies, one payment in the order. */
async function checkWebhooks(demo, order, requests) {
  assert.equal(new Set(requests.map((request) => request.headers['webhook-id'])).size, 1, 'one id');
  assert.equal(new Set(requests.map((request) => request.body.toString('hex'))).size, 1, 'the same bytes');
  const verifier = new Webhook(demo.credentials.merchant.webhook_secret);
  for (const request of requests) {
    const payload = verifier.verify(request.body.toString(), request.headers);
    assert.equal(orderOf(payload), order.order_number);
  }
  const forged = Buffer.from(requests[0].body);
  forged[forged.length - 2] ^= 1;
  assert.throws(() => verifier.verify(forged.toString(), requests[0].headers), 'a changed byte is noticed');

  const now = await demo.orderNow(order.order_number);
  assert.equal(now.state, 'paid');
  assert.equal(now.payments.length, 1);
  assert.equal(now.version, order.version + 1);
  assert.equal((await eventsOf(demo, order.order_number)).length, 1, 'one event in the catch-up list');
}

describe('notices that cannot be trusted', () => {
  let demo;
  before(async () => { demo = await startDemo({ name: 'forged' }); });
  after(() => demo?.stop());

  const bodies = {
    wx: {
      empty: '',
      'not XML': 'hello',
      unsigned: '<xml><appid>x</appid><mch_id>y</mch_id><out_trade_no>12346</out_trade_no></xml>',
      'a DOCTYPE': '<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><appid>&a;</appid></xml>',
      'a wrong signature': (c) => '<xml><return_code>SUCCESS</return_code><result_code>SUCCESS</result_code>'
        + `<appid>${c.wechat.app_id}</appid><mch_id>${c.wechat.mch_id}</mch_id><nonce_str>abc</nonce_str>`
        + `<out_trade_no>12346</out_trade_no><total_fee>11</total_fee><transaction_id>4200000001</transaction_id>`
        + `<sign>${'0'.repeat(32)}</sign></xml>`,
      'another merchant': '<xml><return_code>SUCCESS</return_code><appid>wx0000000000000000</appid>'
        + `<mch_id>1999999999</mch_id><sign>${'A'.repeat(32)}</sign></xml>`,
    },
    ali: {
      empty: '',
      unsigned: 'app_id=1&out_trade_no=1234&trade_status=TRADE_SUCCESS&total_amount=11.10',
      'a wrong signature': (c) => `app_id=${c.alipay.app_id}&seller_id=${c.alipay.seller_id}&out_trade_no=1234`
        + '&trade_status=TRADE_SUCCESS&total_amount=11.10&sign_type=RSA2&sign=AAAA',
      'another merchant': 'app_id=2099000000000000&seller_id=2088000000000000&out_trade_no=1234&sign_type=RSA2&sign=AAAA',
    },
  };
  const refusal = { wx: /<return_code>(<!\[CDATA\[)?FAIL/, ali: /^fail/ };
  const number = { wx: '12346', ali: '1234' };

  for (const channel of channels) {
    for (const [what, body] of Object.entries(bodies[channel])) {
      test(`${channel}, ${what}: refused so that the gateway comes again, and nothing changes`, async () => {
        const before = await demo.orderNow(number[channel]);
        const text = typeof body === 'function' ? body(demo.credentials) : body;
        const type = channel === 'wx' ? 'text/xml' : 'application/x-www-form-urlencoded';
        const answer = await call('POST', `${demo.base}/rest/pub/${channel}/pay_notify`, text, { 'content-type': type });
        assert.match(answer.text, refusal[channel]);
        assert.equal(answer.status, 200);
        assert.doesNotMatch(answer.text, /SUCCESS|^success/);
        assert.deepEqual(await demo.orderNow(number[channel]), before);
      });
    }
  }

  for (const channel of channels) {
    for (const kind of ['forged', 'unsigned', 'other_merchant', 'truncated']) {
      test(`${channel}, ${kind} by the emulator: refused, and the next right one settles`, async () => {
        const order = await demo.order();
        const code = await push(demo, order, channel);
        const fault = { on: 'notify', kind, count: 1 };
        assert.equal((await call('PUT', `${demo.control}/faults`, { faults: [fault] })).status, 200);
        const paid = await demo.pay(code);
        const [first] = await until('the first try', async () => {
          const made = await noticeAttempts(demo, paid.out_trade_no);
          return made.length > 0 && made;
        });
        assert.equal(first.accepted, false);
        await demo.advance(5 * 60_000);
        await until('the order is paid', async () => (await demo.orderNow(order.order_number)).state === 'paid');
      });
    }

    test(`${channel}, rightly signed with another amount: recorded, never paid, acknowledged`, async () => {
      const order = await demo.order();
      const code = await push(demo, order, channel);
      // Every notice and every look says so: nothing right can come after it.
      await call('PUT', `${demo.control}/faults`, { faults: [{ on: 'notify', kind: 'wrong_amount', value: 1, count: 1 }] });
      const paid = await demo.pay(code);
      const attempts = await until('the first try', async () => {
        const made = await noticeAttempts(demo, paid.out_trade_no);
        return made.length > 0 && made;
      });
      assert.equal(attempts[0].accepted, true);
      const now = await demo.orderNow(order.order_number);
      assert.ok(now.anomalies.some((anomaly) => anomaly.kind === 'mismatch' && anomaly.fee === 1),
        JSON.stringify(now.anomalies));
      await call('DELETE', `${demo.control}/faults`);
    });
  }
});
