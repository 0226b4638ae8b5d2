// Money that goes back: what the mall asks for, and what a policy gives back by itself. The emulator's ledger says what
// went back, a stock webhook library what the mall was told, and the page what the shopper reads.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { call, startDemo, startEmulator, until } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';
import { serveFor } from '../lib/serve.mjs';

const channels = ['wx', 'ali'];
const other = { wx: 'ali', ali: 'wx' };
const close = { wx: 'wx.closeorder', ali: 'alipay.trade.close' };

/** Pushes an order and answers the code that a phone would scan. */
async function push(api, order, channel) {
  const answer = await api('POST', `/rest/${channel}/push_order`, { order_type: 'Order', order_number: order.order_number,
    type: channel === 'wx' ? 'NATIVE' : 'QRCODE' });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.data.codeUrl ?? answer.json.data.qr_code;
}

const refundsPath = (order) => `/rest/orders/Order/${order.order_number}/refunds`;

/** Both codes are scanned before either is paid, and the gateway of the second does not close: both are paid. `faults`: what
 *  else is wrong, until the caller ends it. */
async function payTwice(gateways, api, now, order, first, faults = []) {
  const second = other[first];
  const codes = { [first]: await push(api, order, first), [second]: await push(api, order, second) };
  await gateways.controlCall('POST', '/scan', { code: codes[second] });
  await gateways.controlCall('PUT', '/faults', { faults: [{ on: close[second], kind: '5xx' }, ...faults] });
  await gateways.pay(codes[first]);
  await until('the order is paid', async () => (await now(order)).state === 'paid');
  const extra = await gateways.pay(codes[second]);
  if (faults.length === 0) await gateways.controlCall('DELETE', '/faults');
  await until('the second payment is known', async () => (await now(order)).anomalies.length > 0);
  return extra;
}

/** An Alipay code that nobody had scanned cannot be closed there: it is paid after the order's end. */
async function payLate(gateways, api, now, order) {
  const code = await push(api, order, 'ali');
  assert.equal((await api('POST', `/rest/orders/Order/${order.order_number}/close`)).status, 200);
  await until('closed', async () => (await now(order)).state === 'closed');
  return gateways.pay(code);
}

describe('in the demo, whose policies give back', () => {
  let mall;
  let demo;
  before(async () => {
    mall = await startReceiver();
    demo = await startDemo({ name: 'refunds', webhookUrl: `${mall.url}/hook` });
  });
  after(async () => {
    await demo?.stop();
    await mall?.stop();
  });

  const api = (...more) => demo.api(...more);
  const now = (order) => demo.orderNow(order.order_number);
  const ask = (order, body) => demo.api('POST', refundsPath(order), body);
  const madeFor = async (trade) => (await demo.ledger()).refunds
    .filter((refund) => refund.channel === trade.channel && refund.out_trade_no === trade.out_trade_no);
  const refunded = (order, fee) => until(`${fee} are back`, async () => (await now(order)).refunded_fee === fee);
  const page = async (order, lang) => (await call('GET', `${order.checkout_url}?lang=${lang}`)).text;

  /** The webhooks of one kind about an order, each verified by the stock library, one for each id. */
  async function told(order, type, count = 1) {
    const verifier = new Webhook(demo.credentials.merchant.webhook_secret);
    const mine = () => mall.requests.map((request) => ({ request, payload: verifier.verify(request.body.toString(), request.headers) }))
      .filter(({ payload }) => payload.type === type && payload.data.order_number === order.order_number);
    await until(`${count} ${type}`, () => mine().length >= count);
    const ids = new Set(mine().map(({ request }) => request.headers['webhook-id']));
    assert.equal(ids.size, count, type);
    return mine().map(({ payload }) => payload);
  }

  async function paid(channel) {
    const order = await demo.order();
    const trade = await demo.pay(await push(api, order, channel));
    await until('the order is paid', async () => (await now(order)).state === 'paid');
    return { order, trade };
  }

  for (const channel of channels) {
    test(`${channel}: a part, then the rest`, async () => {
      const { order, trade } = await paid(channel);
      const first = await ask(order, { refund_number: 'R1', amount: 400, reason: '缺货' });
      assert.equal(first.status, 201, first.text);
      const { out_refund_no, created_at, ...data } = first.json.data;
      assert.deepEqual(data, { refund_number: 'R1', amount: 400, state: 'processing', reason: '缺货', channel,
        transaction_id: trade.transaction_id, succeeded_at: null, failed_code: null });
      assert.ok(out_refund_no && created_at);
      const on = await page(order, 'zh-CN');
      assert.ok(on.includes('支付成功') && (on.includes('正在退款 4.00 元') || on.includes('已退款 4.00 元')));
      await refunded(order, 400);
      const read = await demo.api('GET', `${refundsPath(order)}/R1`);
      assert.equal(read.json.data.state, 'succeeded', read.text);
      assert.match(read.json.data.succeeded_at, /^20.*\+08:00$/);
      assert.ok((await page(order, 'zh-CN')).includes('已退款 4.00 元'));
      const [event] = await told(order, 'refund.succeeded');
      assert.deepEqual(event.data.refunds, [{ refund_number: 'R1', amount: 400, state: 'succeeded' }]);
      assert.equal(event.data.refunded_fee, 400);

      const rest = await ask(order, { refund_number: 'R2', amount: 834 });
      assert.equal(rest.status, 201, rest.text);
      await refunded(order, 1234);
      const whole = await now(order);
      assert.equal(whole.state, 'paid', 'a refund is not a state');
      assert.equal(whole.paid_fee, 1234);
      assert.deepEqual(whole.refunds.map(({ amount, state }) => [amount, state]), [[400, 'succeeded'], [834, 'succeeded']]);
      assert.ok((await page(order, 'en')).includes('All 12.34 yuan have been refunded'));
      await told(order, 'refund.succeeded', 2);
      // Alipay calls it done when it is accepted; the ledger when the money is there.
      await until('the ledger says so', async () => (await madeFor(trade)).every(({ state }) => state === 'SUCCESS'));
      assert.deepEqual((await madeFor(trade)).map((refund) => refund.refund_fee), [400, 834]);
      assert.equal((await demo.ledger()).trades.find((known) => known.transaction_id === trade.transaction_id).refunded_fee, 1234);
    });

    test(`${channel}: ten times the same number at once is one refund; more than was paid is none`, async () => {
      const { order, trade } = await paid(channel);
      const body = { refund_number: 'R-once', amount: 1000 };
      const answers = await Promise.all(Array.from({ length: 10 }, () => ask(order, body)));
      for (const { status, text } of answers) assert.ok(status === 200 || status === 201, `${status} ${text}`);
      for (const [wrong, name] of [[{ ...body, amount: 999 }, 'refund_different'], [{ ...body, reason: 'x' }, 'refund_different'],
        [{ refund_number: 'R-more', amount: 235 }, 'refund_too_much']]) {
        const refused = await ask(order, wrong);
        assert.equal(refused.status, 409, refused.text);
        assert.equal(refused.json.error, name);
      }
      await refunded(order, 1000);
      assert.deepEqual((await madeFor(trade)).map((refund) => refund.refund_fee), [1000]);
      assert.equal((await ask(order, body)).status, 200, 'and afterwards, too');
      assert.equal((await now(order)).refunds.length, 1);
    });

    test(`${channel}: the gateway does it and its answer is lost: given back once`, async () => {
      const { order, trade } = await paid(channel);
      const on = channel === 'wx' ? 'wx.refund' : 'alipay.trade.refund';
      await demo.controlCall('PUT', '/faults', { faults: [{ on, kind: 'cut_after', count: 2 }] });
      assert.equal((await ask(order, { refund_number: 'R-lost', amount: 1234 })).status, 201);
      for (let round = 0; round < 8 && (await now(order)).refunded_fee === 0; round += 1) {
        await demo.advance(60_000);
        await until('a try', async () => (await now(order)).refunded_fee === 1234, { within: 1500 }).catch(() => {});
      }
      assert.equal((await now(order)).refunded_fee, 1234);
      assert.deepEqual((await madeFor(trade)).map((refund) => refund.refund_fee), [1234]);
    });

    test(`${channel}: the gateway cannot do it: told as failed, and asked for again under another number`, async () => {
      const { order, trade } = await paid(channel);
      const on = channel === 'wx' ? 'wx.refund' : 'alipay.trade.refund';
      await demo.controlCall('PUT', '/faults', { faults: [{ on, kind: 'refund_closed', count: 1 }] });
      assert.equal((await ask(order, { refund_number: 'R-bad', amount: 1234 })).status, 201);
      await told(order, 'refund.failed');
      const { state, failed_code } = (await demo.api('GET', `${refundsPath(order)}/R-bad`)).json.data;
      assert.equal(state, 'failed');
      assert.ok(failed_code);
      assert.equal((await now(order)).refunded_fee, 0);
      await demo.controlCall('DELETE', '/faults');
      assert.equal((await ask(order, { refund_number: 'R-good', amount: 1234 })).status, 201, 'what failed does not count');
      await refunded(order, 1234);
      await until('the ledger says so', async () =>
        (await demo.ledger()).trades.find((known) => known.transaction_id === trade.transaction_id).refunded_fee === 1234);
    });

    test(`${channel} first: paid twice, and the second cannot go back: the page sends nobody away with a promise`, async () => {
      const order = await demo.order();
      const extra = await payTwice(demo, api, now, order, channel, [{ on: 'wx.refund', kind: 'refund_closed', count: 1 },
        { on: 'alipay.trade.refund', kind: 'refund_closed', count: 1 }]);
      await until('it failed', async () => (await now(order)).anomalies[0].refund_state === 'failed');
      await demo.controlCall('DELETE', '/faults');
      assert.ok((await page(order, 'zh-CN')).includes('这笔款项未能自动退回，商家会联系您处理'));
      const again = { refund_number: 'R-by-hand', amount: 1234, transaction_id: extra.transaction_id };
      assert.equal((await ask(order, again)).status, 201);
      await until('it is back', async () => (await now(order)).anomalies[0].refund_state === 'succeeded');
      assert.ok((await page(order, 'zh-CN')).includes('这笔款项已原路退回'));
    });

    test(`${channel} first: paid twice, the second goes back by itself, once, and the page says so`, async () => {
      const order = await demo.order();
      const extra = await payTwice(demo, api, now, order, channel);
      const returned = () => now(order).then(({ anomalies }) => anomalies[0].refund_state === 'succeeded');
      await until('the second payment is back', returned);
      const known = await now(order);
      assert.equal(known.anomalies[0].kind, 'duplicate');
      assert.equal(known.anomalies[0].transaction_id, extra.transaction_id);
      assert.deepEqual([known.paid_fee, known.refunded_fee, known.refunds], [1234, 0, []], 'the payment itself stays');
      assert.deepEqual((await madeFor(extra)).map((refund) => refund.refund_fee), [1234]);
      await told(order, 'payment.duplicate');
      await told(order, 'refund.succeeded');
      const text = await page(order, 'zh-CN');
      for (const part of ['支付成功', '检测到重复付款', '这笔款项已原路退回']) assert.ok(text.includes(part), part);
      assert.ok(!text.includes('已退款'), 'what paid the order was not refunded');
    });
  }

  test('paid late: it goes back by itself, once, and the page says so', async () => {
    const order = await demo.order();
    const extra = await payLate(demo, api, now, order);
    await until('it is back', async () => (await now(order)).anomalies[0]?.refund_state === 'succeeded');
    assert.deepEqual((await madeFor(extra)).map((refund) => refund.refund_fee), [1234]);
    const known = await now(order);
    assert.deepEqual([known.state, known.paid_fee, known.anomalies[0].kind], ['closed', 0, 'late']);
    await told(order, 'payment.late');
    await told(order, 'refund.succeeded');
    const text = await page(order, 'zh-CN');
    for (const part of ['已收到您的付款', '付款到账时订单已结束', '这笔款项已原路退回']) assert.ok(text.includes(part), part);
    assert.ok(!text.includes('支付成功'));
    const { data } = (await call('GET', `${order.checkout_url}/status`)).json;
    assert.deepEqual([data.state, data.extra], ['paid_late', 'returned']);
  });

  test('another amount waits for a person, who gives it back by its transaction', async () => {
    const order = await demo.order();
    const code = await push(api, order, 'wx');
    await demo.controlCall('PUT', '/faults', { faults: [{ on: 'notify', kind: 'wrong_amount', value: 1, count: 1 }] });
    const trade = await demo.pay(code);
    const held = await until('the mismatch is known', async () => (await now(order)).anomalies[0]);
    assert.deepEqual([held.kind, held.fee, held.refund_state], ['mismatch', 1, null]);
    assert.ok((await page(order, 'zh-CN')).includes('商家会联系您'));
    await demo.controlCall('DELETE', '/faults');
    // What the gateway really took is the order's amount: the next notice, or a query, says so.
    await demo.advance(60_000);
    await until('the order is paid', async () => (await now(order)).state === 'paid');
    const back = await ask(order, { refund_number: 'R-by-transaction', amount: 1234, transaction_id: trade.transaction_id });
    assert.equal(back.status, 201, back.text);
    await refunded(order, 1234);
    assert.equal((await madeFor(trade)).length, 1);
  });

  test('an event is sent again on demand, with the same id and the same bytes', async () => {
    const { order } = await paid('wx');
    await told(order, 'order.paid');
    const mine = () => mall.requests.filter(({ body }) => body.includes(order.order_number) && body.includes('order.paid'));
    const [first] = mine();
    const id = first.headers['webhook-id'];
    assert.equal((await demo.api('POST', `/rest/events/${id}/resend`)).status, 200);
    await until('the second', () => mine().length > 1);
    const [, second] = mine();
    assert.equal(second.headers['webhook-id'], id);
    assert.ok(second.body.equals(first.body));
    const unknown = await demo.api('POST', '/rest/events/nobody/resend');
    assert.equal(unknown.status, 404);
  });
});

describe('under serve, where the merchant decides otherwise', () => {
  let emulator;
  let service;
  before(async () => {
    emulator = await startEmulator({ name: 'refunds-emulator' });
    service = await serveFor(emulator, { merchant: 'late_payment = "accept"\nduplicate_payment = "hold"' });
  });
  after(async () => {
    assert.equal(await service?.stop(), 0);
    await emulator?.stop();
  });

  test('hold: a second payment waits; the merchant gives it back by its transaction', async () => {
    const order = await service.order();
    const extra = await payTwice(emulator, service.api, service.now, order, 'wx');
    assert.equal((await service.now(order)).anomalies[0].refund_state, null);
    const page = async () => (await call('GET', `${order.checkout_url}?lang=zh-CN`)).text;
    assert.ok((await page()).includes('商家会联系您'));
    assert.deepEqual((await emulator.ledger()).refunds, []);
    const back = await service.api('POST', refundsPath(order),
      { refund_number: 'R1', amount: 1234, transaction_id: extra.transaction_id });
    assert.equal(back.status, 201, back.text);
    await until('it is back', async () => (await service.now(order)).anomalies[0].refund_state === 'succeeded');
    assert.ok((await page()).includes('这笔款项已原路退回'));
    assert.equal((await emulator.ledger()).refunds.length, 1);
  });

  test('accept: a late payment pays the order after all', async () => {
    const order = await service.order();
    await payLate(emulator, service.api, service.now, order);
    await until('paid', async () => (await service.now(order)).state === 'paid');
    const known = await service.now(order);
    assert.deepEqual([known.paid_fee, known.anomalies], [1234, []]);
    assert.ok((await call('GET', `${order.checkout_url}?lang=zh-CN`)).text.includes('支付成功'));
  });
});

describe("over TLS, where WeChat wants the merchant's certificate for refunds", () => {
  let emulator;
  before(async () => { emulator = await startEmulator({ name: 'refunds-tls', tls: true }); });
  after(() => emulator?.stop());

  for (const shown of [true, false]) {
    test(shown ? 'with it: given back' : 'without it: nothing goes back, and nothing is given up', async () => {
      const { merchant_certificate_file, merchant_private_key_file } = emulator.credentials.wechat;
      const service = await serveFor(emulator, { wechat: shown ? `merchant_certificate_file = "${merchant_certificate_file}"
merchant_private_key_file = "${merchant_private_key_file}"` : '' });
      try {
        const order = await service.order();
        const trade = await emulator.pay(await push(service.api, order, 'wx'));
        await until('paid', async () => (await service.now(order)).state === 'paid');
        assert.equal((await service.api('POST', refundsPath(order), { refund_number: 'R1', amount: 1234 })).status, 201);
        const refund = async () => (await service.api('GET', `${refundsPath(order)}/R1`)).json.data;
        if (shown) {
          await until('its end', async () => (await refund()).state === 'succeeded');
        } else {
          const { calls } = await until('a refusal', async () => {
            const log = await emulator.controlCall('GET', '/log');
            return JSON.stringify(log).includes('certificate') && log;
          });
          assert.ok(calls.length > 0);
          assert.equal((await refund()).state, 'processing', 'a missing certificate is no last word');
        }
        const made = (await emulator.ledger()).refunds.filter((known) => known.out_trade_no === trade.out_trade_no);
        assert.equal(made.length, shown ? 1 : 0);
      } finally {
        assert.equal(await service.stop(), 0);
      }
    });
  }
});
