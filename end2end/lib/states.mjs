// Every state that a shopper or a tablet can come to, and how an order is brought there: by the public calls, the emulator's
// phone, faults and clock, and nothing else. Shared by what photographs them (../wall.mjs) and what judges them
// (../tests/accessible.test.mjs). Never looks into a database.
import { strict as assert } from 'node:assert';
import { desktop, phone, visibleText } from './browser.mjs';
import { orderNumber, until } from './demo.mjs';
import { serveFor } from './serve.mjs';

const wechat = `${phone.userAgent} MicroMessenger/8.0.50.2701(0x28003255) NetType/WIFI Language/zh_CN`;
const alipay = `${phone.userAgent} AlipayClient/10.5.96.8000 Language/zh-Hans`;
/** What the pages are seen with. */
export const sizes = {
  phone: { ...phone, deviceScaleFactor: 2 },
  desktop,
  tablet: { viewport: { width: 1280, height: 800 }, locale: 'zh-CN', hasTouch: true,
    userAgent: 'Mozilla/5.0 (Linux; Android 10; SM-T515) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.0.0 Safari/537.36' },
};
const sold = { title: '手冲咖啡 × 2', total_fee: 5600, return_url: 'https://mall.example.com/orders' };

// --- what is done to an order; `at`: {demo, order} ---

export async function push({ demo, order }, channel = 'wx') {
  const type = channel === 'wx' ? 'NATIVE' : 'QRCODE';
  const { json, text } = await demo.api('POST', `/rest/${channel}/push_order`, { order_type: 'Order', order_number: order.order_number, type });
  assert.equal(json?.status_code, 0, text);
  return json.data.codeUrl ?? json.data.qr_code;
}
const now = ({ demo, order }) => demo.orderNow(order.order_number);
const faults = ({ demo }, list) => demo.controlCall('PUT', '/faults', { faults: list });
async function pay(at) {
  await at.demo.pay(await push(at));
  await until('paid', async () => (await now(at)).state === 'paid');
}
async function close(at) {
  assert.equal((await at.demo.api('POST', `/rest/orders/Order/${at.order.order_number}/close`)).status, 200);
  await until('closed', async () => (await now(at)).state === 'closed');
}
async function expire(at) {
  await at.demo.advance(10 * 60_000);
  await until('expired', async () => (await now(at)).state === 'closed');
}
async function refund(at, amount) {
  await pay(at);
  const asked = await at.demo.api('POST', `/rest/orders/Order/${at.order.order_number}/refunds`, { refund_number: 'R1', amount });
  assert.equal(asked.status, 201, asked.text);
  return until('the refund is known', async () => (await now(at)).refunds.length === 1);
}
async function refunded(at, amount) {
  await refund(at, amount);
  await until('it is back', async () => (await now(at)).refunded_fee === amount);
}
const moneyIs = (at, state) => until(`the money is ${state}`, async () => (await now(at)).anomalies[0]?.refund_state === state);
async function payLate(at) {
  // Nobody has scanned it: Alipay does not know it yet and cannot close it.
  const code = await push(at, 'ali');
  await close(at);
  await at.demo.pay(code);
}
async function payTwice(at, trouble = []) {
  const codes = [await push(at, 'wx'), await push(at, 'ali')];
  await at.demo.controlCall('POST', '/scan', { code: codes[1] });
  await faults(at, [{ on: 'alipay.trade.close', kind: '5xx' }, ...trouble]);
  for (const code of codes) await at.demo.pay(code);
}

// --- what is done on a page ---

export const awake = (page) => until('the islands are awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
async function press(page, name) {
  await page.getByRole('button', { name }).click();
}
async function offline(page) {
  await page.context().setOffline(true);
}

/** States of the checkout page. `says`: what the picture is, for people. `query`: by size; sizes that are missing have no such
 *  state. `make` is done once; `act` on each page, after it was opened. */
const checkout = [
  { name: 'WeChat code', says: 'To be paid: the code for WeChat.', shows: /微信扫一扫/, query: { phone: '?channel=wx&way=scan', desktop: '?channel=wx' } },
  { name: 'Alipay code', says: 'To be paid: the code for Alipay.', shows: /支付宝扫一扫/, query: { phone: '?channel=ali&way=scan', desktop: '?channel=ali' } },
  { name: 'WeChat here', says: 'To be paid: a link that opens WeChat on this phone.', shows: /将打开微信/, query: { phone: '?channel=wx' } },
  { name: 'Alipay here', says: 'To be paid: a link to Alipay in this browser.', shows: /将前往支付宝/, query: { phone: '?channel=ali', desktop: '?channel=ali&way=here' } },
  { name: 'nothing opened', says: 'Three seconds after "Pay now", and no app has opened.', shows: /没有自动打开/, query: { phone: '?channel=wx' }, scripts: [true],
    act: async (page) => {
      await page.evaluate(() => document.querySelector('a[data-open]').addEventListener('click', (event) => event.preventDefault()));
      await page.getByRole('link', { name: '立即支付' }).click();
    } },
  { name: 'any wallet', says: 'To be paid: one code for all wallets.', shows: /微信或支付宝扫一扫/, query: { desktop: '?way=any' } },
  { name: 'English', says: 'To be paid, in English.', shows: /Scan with WeChat/, query: { phone: '?channel=wx&way=scan&lang=en', desktop: '?channel=wx&lang=en' } },
  { name: 'long words', says: 'A title of 256 characters, the longest number, the largest amount.', shows: /微信扫一扫/,
    order: { title: '手冲咖啡与长长的名字'.repeat(26).slice(0, 256), total_fee: 10_000_000_000, order_number: () => 'W'.repeat(8) + orderNumber('W').padEnd(24, 'W') },
    query: { phone: '?channel=wx&way=scan', desktop: '?channel=wx' } },
  { name: 'scanned', says: 'Alipay says that somebody has scanned the code.', shows: /已扫码/, query: { phone: '?channel=ali&way=scan', desktop: '?channel=ali' },
    make: async (at) => {
      await at.demo.controlCall('POST', '/scan', { code: await push(at, 'ali') });
      const status = async () => (await (await fetch(`${at.order.checkout_url}/status`)).json()).data.state;
      await until('it is known as scanned', async () => (await status()) === 'scanned', { within: 15_000 });
    } },
  { name: 'five minutes', says: 'Less than five minutes are left.', shows: /剩余支付时间/, order: { expires_in: 280 } },
  { name: 'last minute', says: 'Less than a minute is left.', shows: /还剩 1 分钟/, order: { expires_in: 60 } },
  { name: 'confirming', says: '"I have paid" was pressed; the gateways are asked.', shows: /正在确认支付结果/, act: (page) => press(page, /我已支付/) },
  { name: 'not yet', says: 'Some seconds after "I have paid": nothing has come.', shows: /暂未收到付款/, scripts: [true], clock: true,
    act: async (page) => {
      await press(page, /我已支付/);
      await page.waitForURL(/asked=/);
      await awake(page);
      await page.clock.fastForward(13_000);
    } },
  { name: 'offline', says: 'The network is gone: what was true stays on the page.', shows: /网络已断开/, scripts: [true],
    act: offline },
  { name: 'unavailable', says: 'WeChat Pay does not answer.', shows: /微信支付暂时不可用/, query: '?channel=wx', faults: [{ on: 'wx.unifiedorder', kind: '5xx' }] },
  { name: 'refused', says: 'WeChat Pay says no (here: another shop of the same account has used up the numbers); a code for support.',
    shows: /问题代码/, query: { phone: '?channel=wx&way=scan', desktop: '?channel=wx' }, order: null,
    make: async (at) => {
      const number = orderNumber();
      // What the other service will try, three each time that a page is opened.
      for (let n = 0; n < 24; n += 1) {
        const used = n === 0 ? number : `${number}_o${String(n).padStart(3, '0')}`;
        at.order = await at.demo.order({ ...sold, total_fee: 1, order_number: used });
        await push(at);
      }
      at.service = await serveFor(at.demo);
      at.order = await at.service.order({ ...sold, order_number: number });
    } },
  { name: 'getting the code', says: 'WeChat Pay is slow: no code yet.', shows: /正在准备支付/, query: '?channel=wx', faults: [{ on: 'wx.unifiedorder', kind: 'delay', delay_ms: 30_000 }],
    fresh: true },
  { name: 'paid', says: 'Paid.', shows: /支付成功/, make: pay },
  { name: 'refunding', says: 'Paid; a part is on its way back.', shows: /正在退款 8\.00 元/, make: async (at) => {
    await faults(at, [{ on: 'wx.refund', kind: '5xx' }]);
    await refund(at, 800);
  } },
  { name: 'refunded in part', says: 'Paid; a part is back.', shows: /已退款 8\.00 元/, make: (at) => refunded(at, 800) },
  { name: 'refunded', says: 'Paid; all of it is back.', shows: /已全额退款 56\.00 元/, make: (at) => refunded(at, 5600) },
  { name: 'expired', says: 'Its time was up; nothing was paid.', shows: /二维码已过期/, order: { expires_in: 60 }, make: expire },
  { name: 'closed', says: 'The merchant closed it; nothing was paid.', shows: /订单已关闭/, make: close },
  { name: 'paid late', says: 'Paid after its end; the money is on its way back.', shows: /已收到您的付款[^]*正在原路退回/, make: async (at) => {
    await faults(at, [{ on: 'alipay.trade.refund', kind: '5xx' }]);
    await payLate(at);
    await until('the money is known', async () => (await now(at)).anomalies.length === 1);
  } },
  { name: 'paid late, returned', says: 'Paid after its end; the money is back.', shows: /已收到您的付款[^]*已原路退回/, make: async (at) => {
    await payLate(at);
    await moneyIs(at, 'succeeded');
  } },
  { name: 'paid twice', says: 'Paid twice; the second payment is back.', shows: /检测到重复付款[^]*已原路退回/, make: async (at) => {
    await payTwice(at);
    await moneyIs(at, 'succeeded');
  } },
  { name: 'paid twice, stuck', says: 'Paid twice; the second payment could not go back by itself.', shows: /检测到重复付款[^]*未能自动退回/, make: async (at) => {
    await payTwice(at, [{ on: 'alipay.trade.refund', kind: 'refund_closed' }]);
    await moneyIs(at, 'failed');
  } },
  { name: 'wrong amount', says: 'The gateway tells of another amount; a person looks at it.', shows: /付款金额异常/, make: async (at) => {
    const code = await push(at);
    await faults(at, [{ on: 'notify', kind: 'wrong_amount', value: 1, count: 1 }, { on: 'notify', kind: 'drop' }, { on: 'wx.orderquery', kind: '5xx' }]);
    await at.demo.pay(code);
    await until('the mismatch is known', async () => (await now(at)).anomalies.length === 1);
  } },
  { name: 'unknown order', says: 'No order has this address.', shows: /找不到这个订单/, order: null, address: ({ demo }) => `${demo.base}/pay/nobody` },
  { name: 'guide in WeChat', says: 'Alipay, opened inside WeChat: how to get out.', shows: /微信内无法使用支付宝/, query: { phone: '?channel=ali' }, device: { userAgent: wechat } },
  { name: 'guide in Alipay', says: 'WeChat Pay, opened inside Alipay: how to get out.', shows: /支付宝内无法使用微信支付/, query: { phone: '?channel=wx' }, device: { userAgent: alipay } },
  { name: 'inside Alipay', says: 'Opened inside Alipay.', shows: /将前往支付宝/, query: { phone: '' }, device: { userAgent: alipay } },
];

/** What a page of ours meets inside WeChat: `outcome` is what the person does when the wallet opens. */
const insideWechat = (outcome) => async (page, { demo }) => {
  await page.exposeFunction('wechatClient', async (body) => {
    if (outcome === 'never') return new Promise(() => {});
    if (typeof outcome === 'object') return { data: outcome };
    return (await fetch(`${demo.control}/bridge`, { method: 'POST', body: JSON.stringify({ ...JSON.parse(body), outcome }) })).json();
  });
  await page.addInitScript(await (await fetch(`${demo.control}/bridge.js?outcome=ok`)).text());
};
const unregistered = { err_msg: 'get_brand_wcpay_request:fail', err_desc: '当前页面的URL未注册:http://pay.example/' };

/** States of the page inside WeChat. */
const wpay = [
  { name: 'opening', says: 'The wallet opens by itself.', shows: /正在打开微信支付/, before: insideWechat('never'), scripts: [true] },
  { name: 'without script', says: 'No JavaScript: what to do instead.', shows: /需要 JavaScript/, scripts: [false] },
  { name: 'cancelled', says: 'The wallet was put away.', shows: /已取消，可重新支付/, before: insideWechat('cancel'), scripts: [true] },
  { name: 'confirming', says: 'The wallet says ok; the gateway is asked.', shows: /正在确认支付结果/, before: insideWechat({ err_msg: 'get_brand_wcpay_request:ok' }), scripts: [true] },
  { name: 'failed', says: 'The wallet could not do it.', shows: /支付未完成/, before: insideWechat('fail'), scripts: [true] },
  { name: 'unregistered', says: 'The merchant has not registered the payment directory.', shows: /WX-DIRECTORY/, before: insideWechat(unregistered), scripts: [true] },
  { name: 'no wallet', says: 'Eight seconds, and no wallet has answered.', shows: /WX-BRIDGE/, scripts: [true], clock: true,
    act: (page) => page.clock.fastForward(9_000) },
  { name: 'offline', says: 'The network is gone.', shows: /网络已断开/, before: insideWechat('cancel'), scripts: [true], act: async (page) => {
    await page.getByRole('heading', { name: '已取消，可重新支付' }).waitFor();
    await offline(page);
  } },
  { name: 'stale', says: 'The way back from WeChat was used before, or is not ours.', shows: /这次打开已失效/, query: '&code=used&state=foreign' },
  { name: 'preview', says: 'Looked at by somebody who has not opened the whole page.', shows: /使用完整服务/,
    make: (at) => at.demo.controlCall('POST', '/wechat', { user: orderNumber('U'), snapshot: true }),
    after: (at) => at.demo.controlCall('POST', '/wechat', { user: orderNumber('U'), snapshot: false }) },
  { name: 'preparing', says: 'WeChat is slow to take the order.', shows: /正在准备支付/, faults: [{ on: 'wx.unifiedorder', kind: 'delay', delay_ms: 30_000 }], fresh: true },
  { name: 'unavailable', says: 'WeChat does not answer.', shows: /微信支付暂时不可用/, faults: [{ on: 'wx.unifiedorder', kind: '5xx' }] },
  { name: 'paid', says: 'Paid.', shows: /支付成功/, make: pay },
].map((state) => ({ ...state, query: { phone: state.query ?? '' }, device: { userAgent: wechat }, address: ({ order }) => order.wpay_url }));

// --- the tablet ---

/** Pairs the tablet as a person does; `show` puts the state's order on it. */
export async function pair(page, at) {
  const { pad, pairing_code: code, pad_url: address } = (await at.demo.api('POST', '/rest/pads')).json.data;
  at.show = async (fields) => {
    at.order = await at.demo.order({ ...sold, ...fields });
    const answer = await at.demo.api('PUT', `/rest/pads/${pad}/order`, { order_type: 'Order', order_number: at.order.order_number });
    assert.equal(answer.status, 200, answer.text);
    if (at.script === false) await page.reload(); // it would by itself, in a few seconds
    await page.getByRole('img', { name: /二维码/ }).waitFor();
  };
  at.leave = () => at.demo.api('DELETE', `/rest/pads/${pad}`);
  await page.goto(address);
  await page.getByLabel('配对码').fill(code);
  await page.getByRole('button', { name: '配对' }).click();
  await page.getByRole('heading', { name: '等待收款' }).waitFor();
}

/** States of the tablet on the counter. */
const pad = [
  { name: 'pairing', says: 'A tablet that nobody has paired yet.', shows: /配对收款平板/, open: (page, { demo }) => page.goto(`${demo.base}/pad/demo`) },
  { name: 'wrong code', says: 'The pairing code is not right.', shows: /配对码不正确/, open: async (page, { demo }) => {
    await page.goto(`${demo.base}/pad/demo`);
    await page.getByLabel('配对码').fill('0000-0000');
    await page.getByRole('button', { name: '配对' }).click();
  } },
  { name: 'idle', says: 'Waits for the next order.', shows: /等待收款/ },
  { name: 'order, WeChat', says: 'An order, to be scanned with WeChat.', shows: /请使用微信扫一扫/, act: (page, at) => at.show() },
  { name: 'order, Alipay', says: 'The same with Alipay.', shows: /请使用支付宝扫一扫/, act: async (page, at) => {
    await at.show();
    await page.getByRole('button', { name: '支付宝', exact: true }).click();
  } },
  { name: 'largest', says: 'The largest amount, in the last minute.', shows: /请使用微信扫一扫/, act: (page, at) => at.show({ total_fee: 10_000_000_000, expires_in: 60 }) },
  { name: 'offline', says: 'The network is gone: to be seen from three metres.', shows: /网络已断开/, scripts: [true], act: async (page, at) => {
    await at.show();
    await offline(page);
  } },
  { name: 'staff', says: 'What staff can do.', shows: /店员操作/, act: async (page, at) => {
    await at.show();
    await page.getByRole('link', { name: '店员' }).click();
  } },
  { name: 'paid', says: 'Paid: three seconds of it.', shows: /支付成功/, brief: true, act: async (page, at) => {
    await at.show();
    await at.demo.pay(await push(at));
    if (!at.script) await page.reload();
  } },
  { name: 'closed', says: 'The till has closed the order.', shows: /订单已关闭/, brief: true, act: async (page, at) => {
    await at.show();
    await close(at);
    if (!at.script) await page.reload();
  } },
].map((state) => ({ open: pair, order: null, query: { tablet: '' }, ...state }));

const named = (page, list) => list.map((state) => ({ ...state, name: `${page}: ${state.name}` }));
export const states = [...named('checkout', checkout), ...named('wpay', wpay), ...named('pad', pad)];

/** Brings an order into a state and opens its page at each size, with and without script unless the state or `scripts` says
 *  otherwise; `see(page, {size, script, order})` looks at each. Everything that was done to the world is undone, whatever happens. */
export async function visit(demo, browser, state, see, { scripts = [true, false] } = {}) {
  const at = { demo };
  const begin = async () => {
    if (state.order === null) return;
    const { order_number: number, ...fields } = state.order ?? {};
    at.order = await demo.order({ ...sold, ...fields, ...(number ? { order_number: number() } : {}) });
  };
  try {
    await begin();
    await state.make?.(at);
    if (state.faults) await faults(at, state.faults);
    for (const [size, device] of Object.entries(sizes)) {
      const query = typeof state.query === 'object' ? state.query[size] : state.query ?? '';
      if (query === undefined || (size === 'tablet' && typeof state.query !== 'object')) continue;
      for (const script of state.scripts ?? scripts) {
        if (state.fresh) await begin();
        at.script = script;
        const shopper = await browser.newContext({ ...device, ...state.device, javaScriptEnabled: script });
        try {
          const page = await shopper.newPage();
          if (state.clock) await page.clock.install();
          await state.before?.(page, at);
          if (state.open) await state.open(page, at);
          else await page.goto((state.address?.(at) ?? at.order.checkout_url) + query);
          // Pages that wake look different before.
          if (script && await page.locator('script[data-wasm]').count() > 0) await awake(page);
          await state.act?.(page, at);
          await until(`${state.name}, ${size}${script ? '' : ', no script'}: the page shows ${state.shows}`,
            async () => state.shows.test(await visibleText(page).catch(() => '')), { within: 15_000 });
          await see(page, { size, script, order: at.order });
        } finally {
          await shopper.close();
          await at.leave?.();
          if (state.open) delete at.order;
        }
      }
    }
  } finally {
    await demo.controlCall('DELETE', '/faults');
    await state.after?.(at);
    await at.service?.stop();
  }
}
