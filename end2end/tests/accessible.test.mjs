// axe-core on the checkout in every state it has, light and dark, phone and desktop: nothing serious or critical.
// Each page is also photographed into end2end/results, for people's eyes.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, phone, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'accessible' }), launch()]);
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

// Each state, and how an order comes into it. The page is opened (again) afterwards.
const states = {
  'pending, WeChat': { query: '?channel=wx', shows: /微信扫一扫/ },
  'pending, Alipay': { query: '?channel=ali', shows: /支付宝扫一扫/ },
  confirming: { press: /我已支付/, shows: /正在确认支付结果|暂未收到付款/ },
  paid: { shows: /支付成功/, make: pay },
  expired: { shows: /已过期|已失效/, order: { expires_in: 60 }, make: expire },
  closed: { shows: /已关闭/, make: close },
  'paid and refunded in part': { shows: /支付成功[^]*已退款 5\.00 元/, make: refund },
  'paid late': { shows: /已收到您的付款[^]*已原路退回/, make: payLate },
  'paid twice': { shows: /检测到重复付款[^]*已原路退回/, make: payTwice },
};

for (const [size, device] of Object.entries({ desktop, phone })) {
  for (const colorScheme of ['light', 'dark']) {
    describe(`${size}, ${colorScheme}`, () => {
      for (const [state, { query = '', shows, order: fields, make, press }] of Object.entries(states)) {
        test(state, async () => {
          const shopper = await browser.newContext({ ...device, colorScheme });
          try {
            const page = await shopper.newPage();
            const order = await demo.order(fields);
            await page.goto(order.checkout_url + query);
            if (make) {
              await make(order);
              await page.goto(order.checkout_url + query);
            }
            if (press) await page.getByRole('button', { name: press }).click();
            await until(`the page shows ${shows}`, async () => shows.test(await visibleText(page)));
            await picture(page, `state-${state}-${size}-${colorScheme}`);
            await page.evaluate(axe);
            const { violations } = await page.evaluate(() => globalThis.axe.run(document));
            const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
            assert.deepEqual(bad.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.html) })), []);
          } finally {
            await shopper.close();
          }
        });
      }
    });
  }
}

test('the QR code is in the first 1280 x 900 of a desktop, and scans in the dark and at phone size', async () => {
  for (const [name, device] of Object.entries({ desktop, phone })) {
    const shopper = await browser.newContext({ ...device, colorScheme: 'dark' });
    const page = await shopper.newPage();
    const order = await demo.order();
    await page.goto(`${order.checkout_url}?channel=wx`);
    await page.getByRole('img', { name: /二维码/ }).first().waitFor();
    if (name === 'phone') await page.getByRole('img', { name: /二维码/ }).first().scrollIntoViewIfNeeded();
    assert.match(scan(await picture(page, `scan-${name}-dark`)), /^weixin:/);
    await shopper.close();
  }
});

async function pay(order) {
  const answer = await demo.api('POST', '/rest/wx/push_order',
    { order_type: 'Order', order_number: order.order_number, type: 'NATIVE' });
  await demo.pay(answer.json.data.codeUrl);
  await until('paid', async () => (await demo.orderNow(order.order_number)).state === 'paid');
}

async function refund(order) {
  await pay(order);
  const path = `/rest/orders/Order/${order.order_number}/refunds`;
  assert.equal((await demo.api('POST', path, { refund_number: 'R1', amount: 500 })).status, 201);
  await until('refunded', async () => (await demo.orderNow(order.order_number)).refunded_fee === 500);
}

async function push(order, channel, type) {
  const answer = await demo.api('POST', `/rest/${channel}/push_order`, { order_type: 'Order', order_number: order.order_number, type });
  return answer.json.data.codeUrl ?? answer.json.data.qr_code;
}

const returned = (order) => until('it is back', async () =>
  (await demo.orderNow(order.order_number)).anomalies[0]?.refund_state === 'succeeded');

async function payLate(order) {
  const code = await push(order, 'ali', 'QRCODE');
  await close(order);
  await demo.pay(code);
  await returned(order);
}

async function payTwice(order) {
  const codes = [await push(order, 'wx', 'NATIVE'), await push(order, 'ali', 'QRCODE')];
  await demo.controlCall('POST', '/scan', { code: codes[1] });
  await demo.controlCall('PUT', '/faults', { faults: [{ on: 'alipay.trade.close', kind: '5xx' }] });
  for (const code of codes) await demo.pay(code);
  await demo.controlCall('DELETE', '/faults');
  await returned(order);
}

async function close(order) {
  const answer = await demo.api('POST', `/rest/orders/Order/${order.order_number}/close`);
  assert.equal(answer.status, 200, answer.text);
  await until('closed', async () => (await demo.orderNow(order.order_number)).state === 'closed');
}

async function expire(order) {
  await demo.advance(10 * 60_000);
  await until('expired', async () => (await demo.orderNow(order.order_number)).state === 'closed');
}
