// What may happen while a checkout page is open: the order ends, the service dies, codes grow old.
// The page must tell the truth without being loaded anew.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { desktop, launch, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';

let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'meanwhile' }), launch()]);
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** Opens an order's page, awake and not to be loaded again, for `visit`. */
async function open(order, visit, context = {}) {
  const shopper = await browser.newContext({ ...desktop, ...context });
  try {
    const page = await shopper.newPage();
    await page.goto(`${order.checkout_url}?channel=wx`);
    await until('the islands are awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
    await page.evaluate(() => { window.notReloaded = true; });
    await visit(page);
    assert.equal(await page.evaluate(() => window.notReloaded), true, 'the page was not loaded anew');
  } finally {
    await shopper.close();
  }
}

const shows = (page, text, options) => until(`the page shows ${text}`, async () => text.test(await visibleText(page)), options);

test('the mall closes the order', async () => {
  const order = await demo.order();
  await open(order, async (page) => {
    const answer = await demo.api('POST', `/rest/orders/Order/${order.order_number}/close`);
    assert.equal(answer.status, 200);
    await shows(page, /订单已关闭/);
    await assert.rejects(async () => scan(await picture(page, 'meanwhile-closed')), /no QR code/);
  });
});

test('scanned with Alipay: the page says so, its code works on, and paid is still paid', async () => {
  const order = await demo.order();
  await open(order, async (page) => {
    await page.getByRole('radio', { name: /支付宝/ }).check({ force: true });
    await shows(page, /支付宝扫一扫/);
    const code = scan(await picture(page, 'meanwhile-scanned-before'));
    await demo.controlCall('POST', '/scan', { code });
    await shows(page, /已扫码，请在手机上确认支付/, { within: 15_000 });
    assert.equal(scan(await picture(page, 'meanwhile-scanned')), code, 'dimmed, and still to be scanned');
    assert.match(await page.title(), /已扫码/);
    await demo.pay(code);
    await shows(page, /支付成功/);
  });
});

test('paid after its end: the page takes back that no money was taken, and follows the money home', async () => {
  const order = await demo.order();
  await open(order, async (page) => {
    await page.getByRole('radio', { name: /支付宝/ }).check({ force: true });
    await shows(page, /支付宝扫一扫/);
    // Nobody has scanned it: Alipay does not know it yet and cannot close it.
    const code = scan(await picture(page, 'meanwhile-late'));
    await demo.api('POST', `/rest/orders/Order/${order.order_number}/close`);
    await shows(page, /没有发生扣款/);
    await demo.pay(code);
    await shows(page, /已收到您的付款[^]*(正在原路退回|已原路退回)/, { within: 25_000 });
    assert.doesNotMatch(await visibleText(page), /没有发生扣款|支付成功/);
    await shows(page, /这笔款项已原路退回/, { within: 25_000 });
  });
});

test('paid a second time with the page still open: it says so', async () => {
  const order = await demo.order();
  await open(order, async (page) => {
    const wechat = scan(await picture(page, 'meanwhile-twice-1'));
    await page.getByRole('radio', { name: /支付宝/ }).check({ force: true });
    await shows(page, /支付宝扫一扫/);
    const alipay = scan(await picture(page, 'meanwhile-twice-2'));
    await demo.controlCall('POST', '/scan', { code: alipay });
    await demo.controlCall('PUT', '/faults', { faults: [{ on: 'alipay.trade.close', kind: '5xx' }] });
    await demo.pay(wechat);
    await shows(page, /支付成功/);
    await demo.pay(alipay);
    await demo.controlCall('DELETE', '/faults');
    await shows(page, /检测到重复付款/, { within: 25_000 });
    await shows(page, /这笔款项已原路退回/, { within: 25_000 });
    assert.match(await visibleText(page), /支付成功/);
  });
});

test('its time runs out', async () => {
  const order = await demo.order({ expires_in: 60 });
  await open(order, async (page) => {
    const code = scan(await picture(page, 'meanwhile-expiring'));
    await demo.advance(10 * 60_000);
    await shows(page, /二维码已过期/);
    await assert.rejects(demo.pay(code), /40\d/, 'the old code takes no money');
    assert.equal((await demo.orderNow(order.order_number)).state, 'closed');
  });
});

test('the method is switched without loading the page, and back to the same code', async () => {
  await open(await demo.order(), async (page) => {
    const first = scan(await picture(page, 'meanwhile-switch-1'));
    await page.getByRole('radio', { name: /支付宝/ }).check({ force: true });
    await shows(page, /支付宝扫一扫/);
    assert.match(scan(await picture(page, 'meanwhile-switch-2')), /^https:\/\/qr\.alipay\.com\//);
    await page.getByRole('radio', { name: /微信/ }).check({ force: true });
    await shows(page, /微信扫一扫/);
    assert.equal(scan(await picture(page, 'meanwhile-switch-3')), first);
  });
});

test('the service is killed and comes back: the page finds it again, and turns', async () => {
  const order = await demo.order();
  await open(order, async (page) => {
    const code = scan(await picture(page, 'meanwhile-restart'));
    await demo.kill9();
    await shows(page, /网络已断开/);
    assert.doesNotMatch(await visibleText(page), /支付成功/);
    await demo.start();
    await demo.pay(code);
    await shows(page, /支付成功/, { within: 20_000 });
    assert.doesNotMatch(await visibleText(page), /网络已断开/);
  });
});

test('in English, everything is said in English', async () => {
  const order = await demo.order({ title: 'Coffee' });
  await open(order, async (page) => {
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'en');
    assert.match(await visibleText(page), /Scan with WeChat to pay/);
    await demo.pay(scan(await picture(page, 'meanwhile-english')));
    await shows(page, /Payment successful/);
    assert.doesNotMatch((await visibleText(page)).replaceAll(/示例商城|中文|微|支/g, ''), /[\u4e00-\u9fff]/);
  }, { locale: 'en-US' });
});

test('the codes of the examples renew when they grow old, and stay payable', async () => {
  const push = async () => (await demo.api('POST', '/rest/wx/push_order',
    { order_type: 'Order', order_number: '12346', type: 'NATIVE' })).json.data;
  const first = await push();
  await demo.advance(3 * 3_600_000);
  const second = await push();
  assert.notEqual(second.codeUrl, first.codeUrl);
  await demo.pay(second.codeUrl);
  await until('paid', async () => (await demo.orderNow('12346')).state === 'paid');
});
