// The pages of both gateways in a real browser without JavaScript, entered from somebody else's shop by a link: their own
// policies must let a shopper in, through, and back to the shop.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { desktop, launch, phone, picture, scan } from '../lib/browser.mjs';
import { orderNumber, startEmulator } from '../lib/demo.mjs';
import { alipaySdk, axiosPlugin } from '../judges/sdks.mjs';

let emulator;
let browser;
let shop;
let link; // what the shop's page leads to
before(async () => {
  [emulator, browser] = await Promise.all([startEmulator({ name: 'wallets' }), launch()]);
  shop = createServer((request, answer) => {
    const page = request.url.startsWith('/shop') ? `<a href="${link.replaceAll('&', '&amp;')}">pay</a>` : `<h1>back</h1>`;
    answer.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'referrer-policy': 'strict-origin' }).end(page);
  }).listen(0, '127.0.0.1');
  await once(shop, 'listening');
  shop.url = `http://127.0.0.1:${shop.address().port}`;
});
after(async () => {
  await browser?.close();
  shop?.closeAllConnections();
  shop?.close();
  await emulator?.stop();
});

const state = async (number) => (await emulator.ledger()).trades.find((trade) => trade.out_trade_no === number)?.state;

/** Opens the shop in a fresh browser and follows its link. */
async function visit(device, walk) {
  const shopper = await browser.newContext({ ...device, javaScriptEnabled: false });
  try {
    const page = await shopper.newPage();
    await page.goto(`${shop.url}/shop`);
    await page.getByRole('link', { name: 'pay' }).click();
    await walk(page);
  } finally {
    await shopper.close();
  }
}

const arrived = (page) => page.waitForURL((url) => url.href.startsWith(`${shop.url}/back`));
const press = (page, name) => page.getByRole('button', { name }).click();

/** alipay-sdk's link for a browser. */
function alipayLink(method, number) {
  return alipaySdk(emulator.credentials).pageExecute(method, 'GET', { return_url: `${shop.url}/back?asked=1`,
    bizContent: { out_trade_no: number, subject: '茶', total_amount: '12.34', quit_url: `${shop.url}/back?quit=1` } });
}

test('a phone pays at Alipay behind a link and comes back', async () => {
  const number = orderNumber('WA');
  link = alipayLink('alipay.trade.wap.pay', number);
  await visit(phone, async (page) => {
    await press(page, '取消');
    await arrived(page);
    assert.equal(await state(number), undefined);
    await page.goto(link);
    await press(page, '登录并继续');
    await press(page, '确认付款');
    await arrived(page);
    assert.equal(new URL(page.url()).searchParams.get('out_trade_no'), number);
    assert.equal(await state(number), 'SUCCESS');
  });
});

test('a computer shows a QR code, a phone pays it, and the computer comes back by itself', async () => {
  const number = orderNumber('WP');
  link = alipayLink('alipay.trade.page.pay', number);
  await visit(desktop, async (page) => {
    await page.getByRole('img', { name: '支付宝二维码' }).waitFor();
    const code = scan(await picture(page, 'wallets-page-pay'));
    assert.equal((await emulator.pay(code)).out_trade_no, number);
    await arrived(page);
  });
});

test("a phone pays behind WeChat's link and comes back; WeChat's own browser is turned away", async () => {
  const { app_id: appid, mch_id } = emulator.credentials.wechat;
  const number = orderNumber('WM');
  const { data } = await axiosPlugin(emulator.credentials).v2.pay.unifiedorder.post({ appid, mch_id,
    nonce_str: 'ibuaiVcKdpRxkhJA', body: '茶', out_trade_no: number, total_fee: 1234, spbill_create_ip: '127.0.0.1',
    notify_url: `${shop.url}/notify`, trade_type: 'MWEB',
    scene_info: JSON.stringify({ h5_info: { type: 'Wap', wap_url: shop.url, wap_name: '茶店' } }) });
  link = `${data.mweb_url}&redirect_url=${encodeURIComponent(`${shop.url}/back?asked=1`)}`;
  await visit({ ...phone, userAgent: `${phone.userAgent} MicroMessenger/8.0.50` }, async (page) => {
    await page.getByText('请在微信外打开订单，进行支付').waitFor();
  });
  await visit(phone, async (page) => {
    await press(page, '取消');
    await arrived(page);
    assert.equal(await state(number), 'NOTPAY');
  });
  await visit(phone, async (page) => {
    await press(page, '确认付款');
    await arrived(page);
    assert.equal(await state(number), 'SUCCESS');
  });
});
