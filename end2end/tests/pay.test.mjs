// The main job in a real browser: buy in the mall, scan the QR off a screenshot, pay, and see the page turn.
// Three ways for the page to turn, two gateways; the measured times are printed.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, phone, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';

const channels = [
  { channel: 'wx', name: 'WeChat', radio: /微信/, code: /^weixin:\/\/wxpay\/bizpayurl/ },
  { channel: 'ali', name: 'Alipay', radio: /支付宝/, code: /^https:\/\/qr\.alipay\.com\// },
];
// How the page learns of it, and how long that may take from the moment the phone pays.
const ways = [
  { way: 'SSE', within: 1000 },
  { way: 'polling', within: 3000, block: '**/events*' },
  { way: 'no JavaScript', within: 7000, context: { javaScriptEnabled: false } },
  { way: 'wasm blocked', within: 7000, block: '**/*.wasm' },
  { way: 'no WebAssembly', within: 7000, old: () => { delete globalThis.WebAssembly; } },
];

let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'pay' }), launch()]);
});
after(async () => {
  await browser?.close();
  const how = await demo?.stop();
  assert.equal(how?.code, 0, 'SIGTERM drains and exits 0');
});

describe('the page turns to 支付成功', () => {
  for (const { way, within, block, old, context } of ways) {
    for (const { channel, name, radio, code: codeShape } of channels) {
      test(`${name}, ${way}: within ${within} ms`, async () => {
        const shopper = await browser.newContext({ ...desktop, ...context });
        try {
          const page = await shopper.newPage();
          const streams = [];
          const complaints = []; // of the content security policy, of scripts
          if (!block) {
            page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
            page.on('pageerror', (error) => complaints.push(error.message));
          }
          page.on('request', (request) => {
            if (new URL(request.url()).pathname.endsWith('/events')) streams.push(request.url());
          });
          if (block) await page.route(block, (route) => route.abort());
          if (old) await page.addInitScript(old);
          const mall = await shopper.newPage();

          const number = await buy(page);
          if (way === 'SSE' || way === 'polling') await awake(page);
          if (way !== 'no JavaScript') await page.evaluate(() => { window.notReloaded = true; });
          await choose(page, radio, channel);
          const shot = await picture(page, `pay-${channel}-${way}-pending`);
          const code = scan(shot);
          assert.match(code, codeShape);
          assert.doesNotMatch(await visibleText(page), /支付成功/);
          if (way === 'SSE') await until('the event stream is open', () => streams.length > 0);
          await mall.goto(`${demo.base}/mall`);
          assert.equal((await orderAtMall(number)).state, 'pending');

          const from = performance.now();
          const paid = await demo.pay(code);
          await page.getByText('支付成功').filter({ visible: true }).first().waitFor({ timeout: 15_000 });
          const took = Math.round(performance.now() - from);

          console.log(`    ${name}, ${way}: 支付成功 after ${took} ms (at most ${within})`);
          await picture(page, `pay-${channel}-${way}-paid`);
          assert.ok(took <= within, `${took} ms, at most ${within}`);
          if (way === 'SSE' || way === 'polling') {
            assert.equal(await page.evaluate(() => window.notReloaded), true, 'the page was not loaded anew');
          }
          assert.deepEqual(complaints, []);
          assert.equal(paid.channel, channel);
          const order = await demo.orderNow(number);
          assert.equal(order.state, 'paid');
          assert.equal(order.paid_fee, order.total_fee);
          assert.deepEqual(order.payments.map((payment) => payment.transaction_id), [paid.transaction_id]);

          const listed = await until('the mall knows', async () => {
            const entry = await orderAtMall(number);
            return entry.state === 'paid' && entry;
          });
          assert.equal(listed.events.filter((event) => event.type === 'order.paid').length, 1);
          // Without script it loads itself anew, too.
          await until('the mall page shows it', async () =>
            /已支付/.test(await mall.locator(`[data-order="${number}"]`).innerText()));
        } finally {
          await shopper.close();
        }
      });
    }
  }
});

describe('支付成功 stands nowhere before it is true', () => {
  for (const javaScriptEnabled of [true, false]) {
    test(javaScriptEnabled ? 'with JavaScript' : 'without JavaScript', async () => {
      const shopper = await browser.newContext({ ...desktop, javaScriptEnabled });
      try {
        const order = await demo.order();
        const page = await shopper.newPage();
        // What a shopper might type, or come back with from a wallet.
        for (const query of ['', '?state=paid', '?result=success&trade_status=TRADE_SUCCESS', '?channel=ali']) {
          await page.goto(order.checkout_url + query);
          assert.doesNotMatch(await visibleText(page), /支付成功/);
        }
        // "I have paid", said before it is so: the page asks the gateway and says that it waits.
        await page.getByRole('button', { name: /我已支付/ }).click();
        await until('the page says that it asks', async () => /正在确认支付结果|暂未收到付款/.test(await visibleText(page)));
        assert.doesNotMatch(await visibleText(page), /支付成功/);
        assert.equal((await demo.orderNow(order.order_number)).state, 'pending');
      } finally {
        await shopper.close();
      }
    });
  }
});

test('a person pays on the phone page, and may cancel first', async () => {
  const person = await browser.newContext({ ...desktop });
  try {
    const page = await person.newPage();
    const number = await buy(page);
    const code = scan(await picture(page, 'phone-checkout'));
    const handheld = await person.newPage();
    await handheld.setViewportSize(phone.viewport);
    await handheld.goto(`${demo.control}/phone`);
    await handheld.getByLabel('粘贴二维码内容').fill(code);
    await handheld.getByRole('button', { name: '打开' }).click();
    await handheld.getByRole('button', { name: '取消' }).click();
    await handheld.getByText('已取消支付').waitFor();
    assert.equal((await demo.orderNow(number)).state, 'pending');
    assert.doesNotMatch(await visibleText(page), /支付成功/);
    await picture(handheld, 'phone-cashier');
    await handheld.getByRole('button', { name: '确认付款' }).click();
    await handheld.getByText('支付成功').waitFor();
    await page.getByText('支付成功').filter({ visible: true }).first().waitFor();
    assert.equal((await demo.orderNow(number)).state, 'paid');
  } finally {
    await person.close();
  }
});

/** Buys the first goods of the mall; answers the order number. The page is then at the checkout. */
async function buy(page) {
  await page.goto(`${demo.base}/mall`);
  await page.locator('form button').first().click();
  await page.waitForURL('**/pay/**');
  const newest = (await ordersAtMall())[0];
  assert.ok((await visibleText(page)).includes(newest.order_number), 'the checkout names the order');
  return newest.order_number;
}

/** Waits until an island answers: from then on the page lives. */
async function awake(page) {
  await page.waitForLoadState('load');
  await until('the islands are awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
}

/** Chooses how to pay, as a shopper does: by the radio button; without script, with the form's button. */
async function choose(page, radio, channel) {
  const choice = page.getByRole('radio', { name: radio });
  if (await choice.isChecked()) return;
  await choice.check({ force: true }); // the label covers it
  const send = page.getByRole('button', { name: '使用所选方式' }); // there when no island wakes
  const shown = page.getByText(channel === 'wx' ? /微信扫一扫/ : /支付宝扫一扫/).first();
  await send.or(shown).first().waitFor();
  if (await send.isVisible()) await send.click();
  await shown.waitFor();
}

async function ordersAtMall() {
  const answer = await fetch(`${demo.base}/mall/orders.json`);
  return (await answer.json()).orders;
}

async function orderAtMall(number) {
  return (await ordersAtMall()).find((order) => order.order_number === number);
}
