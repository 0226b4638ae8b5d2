// Paying inside WeChat: a real Chromium that says it is WeChat's browser, the emulator as WeChat and as its wallet. The page
// must tell the truth whatever the wallet says, on a phone, in light and dark, and to a screen reader.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { launch, phone, picture, visibleText } from '../lib/browser.mjs';
import { orderNumber, startDemo, until } from '../lib/demo.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const wechat = 'MicroMessenger/8.0.47.2560(0x28002F30) NetType/WIFI Language/zh_CN';
const devices = {
  android: { ...phone, userAgent: `${phone.userAgent} ${wechat}` },
  iphone: { ...phone, userAgent: `Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 ${wechat}` },
};
let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'wpay' }), launch()]);
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** A person with WeChat. `outcomes`: what they do each time the wallet opens; the last one goes on. `params`: what the page
 *  asked for, each time. */
async function inWechat(visit, { device = devices.android, outcomes = ['ok'], bridge = '', context = {} } = {}) {
  const shopper = await browser.newContext({ ...device, ...context });
  const calls = [];
  try {
    await shopper.exposeFunction('wechatClient', async (body) => {
      const call = JSON.parse(body);
      const outcome = outcomes[Math.min(calls.length, outcomes.length - 1)];
      calls.push(call.params);
      if (outcome === 'never') return new Promise(() => {});
      if (typeof outcome === 'object') return { data: outcome };
      const answer = await fetch(`${demo.control}/bridge`, { method: 'POST', body: JSON.stringify({ ...call, outcome: outcome === 'silent' ? 'ok' : outcome }) });
      const told = await answer.json();
      return outcome === 'silent' ? new Promise(() => {}) : told;
    });
    const script = await (await fetch(`${demo.control}/bridge.js?outcome=ok${bridge}`)).text();
    if (bridge !== 'none') await shopper.addInitScript(script);
    const page = await shopper.newPage();
    const broken = [];
    page.on('pageerror', (error) => broken.push(error.message));
    page.on('console', (message) => { if (/Content.Security.Policy/i.test(message.text())) broken.push(message.text()); });
    await visit(page, calls, shopper);
    assert.deepEqual(broken, [], 'no script breaks, and none is refused');
  } finally {
    await shopper.close();
  }
}

const shows = (page, text, options) => until(`the page shows ${text}`,
  async () => text.test(await visibleText(page).catch(() => '')), options);
const paid = (order) => until('it is paid',
  async () => (await demo.orderNow(order.order_number, order.order_type)).state === 'paid');

async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(bad.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.html) })), []);
}

for (const [name, device] of Object.entries(devices)) {
  for (const type of ['Order', 'Wallet', 'Appointment']) {
    test(`${name}: ${type} is paid to the end, the wallet opens by itself and once`, async () => {
      const order = await demo.order({ order_type: type, return_url: 'https://mall.example/orders' });
      await inWechat(async (page, calls) => {
        await page.goto(order.wpay_url);
        await shows(page, /支付成功/);
        await paid(order);
        assert.equal(calls.length, 1);
        assert.match(calls[0].package, /^prepay_id=/);
        assert.match(await page.title(), /支付成功 ¥12\.34/);
        assert.match(await visibleText(page), new RegExp(order.order_number));
        await page.getByRole('link', { name: '返回商家' }).waitFor();
        // Coming back later: the result, without a way to WeChat.
        await page.goto(order.wpay_url);
        await shows(page, /支付成功/);
      }, { device });
      const { trades } = await demo.ledger();
      assert.equal(trades.filter((trade) => trade.out_trade_no.startsWith(order.order_number)).length, 1);
    });
  }
}

test('the checkout page opened inside WeChat leads to the wallet, in the language that was chosen', async () => {
  const order = await demo.order({ title: 'Coffee' });
  await inWechat(async (page) => {
    await page.goto(`${order.checkout_url}?lang=en`);
    await shows(page, /Cancelled; you can pay again/);
    assert.match(page.url(), /\/app\/payment\/wpay\/.*lang=en/);
    assert.doesNotMatch((await visibleText(page)).replaceAll(/示例商城|中文/g, ''), /[\u4e00-\u9fff]/);
    await page.getByRole('link', { name: 'Pay another way' }).click();
    await shows(page, /Open in browser/);
  }, { outcomes: ['cancel'] });
});

test('cancelled: it says so, does not ask again by itself, and can be paid after all', async () => {
  const order = await demo.order();
  await inWechat(async (page, calls) => {
    await page.goto(order.wpay_url);
    await shows(page, /已取消，可重新支付/);
    assert.equal(await page.getByRole('status').innerText().catch(() => ''), await page.locator('#calm').innerText());
    assert.match(await page.locator('#calm').textContent(), /已取消/);
    await page.reload();
    await shows(page, /已取消，可重新支付/);
    // Away and back again, as from a page of the mall.
    await page.goto('about:blank');
    await page.goBack();
    await shows(page, /已取消，可重新支付/);
    assert.equal(calls.length, 1, 'the wallet was opened once');
    await page.getByRole('button', { name: '微信支付 ¥12.34' }).click();
    await shows(page, /支付成功/);
    assert.equal(calls.length, 2);
    assert.equal(calls[0].package, calls[1].package, 'the same trade');
  }, { outcomes: ['cancel', 'ok'] });
});

test('while the wallet is open the button is not to be pressed, and focus is not lost', async () => {
  const order = await demo.order();
  await inWechat(async (page, calls) => {
    await page.goto(order.wpay_url);
    await shows(page, /已取消/);
    const button = page.getByRole('button', { name: /微信支付/ });
    await button.focus();
    await page.keyboard.press('Enter');
    await shows(page, /正在打开微信支付/);
    assert.equal(await button.isDisabled(), true);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'heading');
    assert.match(await page.title(), /正在打开微信支付/);
    assert.equal(await page.getByRole('link', { name: '换一种方式支付' }).isVisible(), false);
    await button.dispatchEvent('click');
    assert.equal(calls.length, 2);
  }, { outcomes: ['cancel', 'never'] });
});

test('failed: human words, a code for support, a way on', async () => {
  const order = await demo.order();
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await shows(page, /支付未完成[^]*问题代码 WX-FAIL 支付失败：余额不足/);
    assert.match(await page.locator('#urgent').textContent(), /支付未完成/);
    await page.getByRole('link', { name: '重新开始' }).click();
    await shows(page, /支付成功/);
  }, { outcomes: ['fail', 'ok'] });
});

test('the payment directory is not registered: the merchant is named as the one to act', async () => {
  const order = await demo.order();
  const unregistered = { err_msg: 'get_brand_wcpay_request:fail', err_desc: '当前页面的URL未注册:http://pay.example/' };
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await shows(page, /商家的支付目录未登记[^]*问题代码 WX-DIRECTORY/);
  }, { outcomes: [unregistered] });
});

test('the wallet never calls back, and the page turns all the same within 3 s', async () => {
  const order = await demo.order();
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await paid(order);
    await shows(page, /支付成功/, { within: 3_000 });
  }, { outcomes: ['silent'] });
});

test('the wallet says ok and no money comes: confirming, and nothing else', async () => {
  const order = await demo.order();
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await shows(page, /正在确认支付结果[^]*请勿重复付款/);
    assert.equal(await page.getByRole('link', { name: '换一种方式支付' }).isVisible(), false);
    assert.match(await visibleText(page), /暂不能更换支付方式/);
    await page.waitForResponse((answer) => answer.url().endsWith('/status'));
    assert.doesNotMatch(await page.content(), /支付成功/);
    assert.equal((await demo.orderNow(order.order_number)).state, 'pending');
  }, { outcomes: [{ err_msg: 'get_brand_wcpay_request:ok' }] });
});

test('no notice comes: the question that "ok" makes the page ask is enough', async () => {
  const order = await demo.order();
  await demo.controlCall('PUT', '/faults', { faults: [{ on: 'notify', kind: 'drop' }] });
  try {
    await inWechat(async (page) => {
      await page.goto(order.wpay_url);
      await shows(page, /支付成功/, { within: 4_000 });
    });
  } finally {
    await demo.controlCall('DELETE', '/faults');
  }
});

test('WeixinJSBridge comes late, or never', async () => {
  const order = await demo.order();
  await inWechat(async (page, calls) => {
    await page.goto(order.wpay_url);
    await shows(page, /正在打开微信支付/);
    await shows(page, /支付成功/);
    assert.equal(calls.length, 1);
  }, { bridge: '&delay_ms=1500' });
  const other = await demo.order();
  await inWechat(async (page) => {
    await page.goto(other.wpay_url);
    await shows(page, /没有连上微信支付[^]*WX-BRIDGE/, { within: 12_000 });
  }, { bridge: 'none' });
});

test('scanned with Alipay somewhere else: the page inside WeChat stays as it is', { timeout: 60_000 }, async () => {
  const order = await demo.order();
  const pushed = await demo.api('POST', '/rest/ali/push_order', { order_type: 'Order', order_number: order.order_number, type: 'QRCODE' });
  await demo.controlCall('POST', '/scan', { code: pushed.json.data.qr_code });
  const status = async () => (await (await fetch(`${order.checkout_url}/status`)).json()).data.state;
  await until('it is known as scanned', async () => (await status()) === 'scanned', { within: 15_000 });
  await inWechat(async (page, calls) => {
    await page.goto(order.wpay_url);
    await shows(page, /正在打开微信支付/);
    await page.evaluate(() => { window.notReloaded = true; });
    for (let asked = 0; asked < 3; asked += 1) await page.waitForResponse((answer) => answer.url().endsWith('/status'));
    assert.equal(await page.evaluate(() => window.notReloaded), true, 'the page was not loaded anew');
    assert.equal(calls.length, 1);
  }, { outcomes: ['never'] });
});

test('reloaded while the wallet is open: the same trade, the same person, no new way to WeChat', async () => {
  const order = await demo.order();
  await inWechat(async (page, calls) => {
    const asked = [];
    page.on('request', (request) => { if (/oauth2\/authorize/.test(request.url())) asked.push(request.url()); });
    await page.goto(order.wpay_url);
    await until('the wallet is open', async () => calls.length === 1);
    await page.reload();
    await shows(page, /支付成功/);
    assert.equal(asked.length, 1);
    assert.equal(calls[0].package, calls[1].package);
    const attempts = (await demo.orderNow(order.order_number)).attempts;
    assert.equal(attempts.length, 1);
  }, { outcomes: ['never', 'ok'] });
});

test('a code that comes back twice, a link of another browser: a calm page with one way on', async () => {
  const order = await demo.order();
  let back;
  await inWechat(async (page) => {
    page.on('request', (request) => { if (/[?&]code=/.test(request.url())) back = request.url(); });
    await page.goto(order.wpay_url);
    await shows(page, /已取消/);
    // Its own: who is known needs no code.
    await page.goto(back);
    await shows(page, /已取消/);
    assert.doesNotMatch(page.url(), /code=|state=/);
  }, { outcomes: ['cancel'] });
  await inWechat(async (page, calls, shopper) => {
    await page.goto(back);
    await shows(page, /这次打开已失效[^]*没有发生扣款/);
    assert.doesNotMatch(page.url(), /code=|state=/);
    assert.deepEqual((await shopper.cookies()).map(({ name }) => name).filter((name) => /payer/.test(name)), []);
    assert.equal(calls.length, 0);
    await accessible(page);
    await page.getByRole('link', { name: '重新开始' }).click();
    await shows(page, /支付成功/);
  });
});

test('success typed into the address is not heard', async () => {
  const order = await demo.order();
  await inWechat(async (page) => {
    await page.goto(`${order.wpay_url}&result=success&err_msg=get_brand_wcpay_request%3Aok&state_=paid`);
    await shows(page, /已取消/);
    assert.doesNotMatch(await page.content(), /支付成功/);
    assert.equal((await demo.orderNow(order.order_number)).state, 'pending');
  }, { outcomes: ['cancel'] });
});

test('a preview user is told to open the whole page, and can pay after that', async () => {
  const order = await demo.order();
  const user = orderNumber('U');
  await demo.controlCall('POST', '/wechat', { user, snapshot: true });
  await inWechat(async (page, calls) => {
    await page.goto(order.wpay_url);
    await shows(page, /使用完整服务/);
    assert.equal((await demo.orderNow(order.order_number)).attempts.length, 0);
    await accessible(page);
    await picture(page, 'wpay-preview');
    await demo.controlCall('POST', '/wechat', { user, snapshot: false });
    await page.reload();
    await shows(page, /支付成功/);
    assert.equal(calls.length, 1);
  });
});

test('WeChat is slow to take the order: the page says so and goes on by itself', async () => {
  const order = await demo.order();
  await demo.controlCall('PUT', '/faults', { faults: [{ on: 'wx.unifiedorder', kind: 'delay', delay_ms: 3_000, count: 1 }] });
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await shows(page, /正在准备支付/);
    await picture(page, 'wpay-preparing');
    await shows(page, /支付成功/);
  });
});

test('the network goes: a banner after three seconds, and the truth when it is back', async () => {
  const order = await demo.order();
  await inWechat(async (page, calls, shopper) => {
    await page.goto(order.wpay_url);
    await shows(page, /已取消/);
    await shopper.setOffline(true);
    await shows(page, /网络已断开/, { within: 6_000 });
    await demo.controlCall('POST', '/bridge', { params: calls[0], outcome: 'ok' });
    await shopper.setOffline(false);
    await shows(page, /支付成功/, { within: 3_000 });
  }, { outcomes: ['cancel'] });
});

test('without JavaScript: what to do, and the page turns to paid by itself', async () => {
  const order = await demo.order();
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await shows(page, /需要 JavaScript[^]*在浏览器打开/);
    await picture(page, 'wpay-no-script');
    const params = JSON.parse(await page.locator('#bridge').getAttribute('data-params'));
    await demo.controlCall('POST', '/bridge', { params, outcome: 'ok' });
    await shows(page, /支付成功/, { within: 9_000 });
  }, { context: { javaScriptEnabled: false } });
});

describe('accessible in each state, light and dark', () => {
  const states = {
    busy: { outcomes: ['never'], text: /正在打开微信支付/ },
    confirming: { outcomes: [{ err_msg: 'get_brand_wcpay_request:ok' }], text: /正在确认支付结果/ },
    cancelled: { outcomes: ['cancel'], text: /已取消/ },
    failed: { outcomes: ['fail'], text: /支付未完成/ },
  };
  for (const colorScheme of ['light', 'dark']) {
    for (const [state, { outcomes, text }] of Object.entries(states)) {
      test(`${state}, ${colorScheme}`, async () => {
        const order = await demo.order({ title: '手冲咖啡 × 2', return_url: 'https://mall.example/orders' });
        await inWechat(async (page) => {
          await page.goto(order.wpay_url);
          await shows(page, text);
          await picture(page, `wpay-${state}-${colorScheme}`);
          await accessible(page);
        }, { outcomes, context: { colorScheme } });
      });
    }
  }
});

test('the order number is copied with one tap, and it is said', async () => {
  const order = await demo.order();
  await inWechat(async (page, calls, shopper) => {
    await shopper.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: demo.base });
    await page.goto(order.wpay_url);
    await shows(page, /已取消/);
    await page.getByRole('button', { name: '复制订单号' }).click();
    await until('it says so', async () => (await page.locator('#calm').textContent()) === '已复制');
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), order.order_number);
  }, { outcomes: ['cancel'] });
});

test('its time runs out: a warning, then the result', async () => {
  const order = await demo.order({ expires_in: 600 });
  await inWechat(async (page) => {
    await page.goto(order.wpay_url);
    await shows(page, /已取消/);
    await demo.advance(545_000);
    await shows(page, /还剩 1 分钟/, { within: 3_000 });
    assert.match(await page.locator('#calm').textContent(), /还剩 1 分钟/);
    await demo.advance(600_000);
    await shows(page, /已过期/);
  }, { outcomes: ['cancel'] });
});

test('nobody is named in the log, and no secret', async () => {
  const { openid } = await demo.controlCall('GET', '/wechat');
  const log = readFileSync(demo.logFile, 'utf8');
  assert.ok(openid.length > 5 && log.length > 0);
  for (const hidden of [openid, demo.credentials.wechat.app_secret, 'access_token?appid']) {
    assert.ok(!log.includes(hidden), hidden.slice(0, 6));
  }
});

test('what it downloads: a small script, and no wasm', async () => {
  const order = await demo.order();
  await inWechat(async (page) => {
    const sizes = {};
    page.on('response', async (answer) => {
      if (answer.status() === 200) sizes[new URL(answer.url()).pathname] = (await answer.body().catch(() => '')).length;
    });
    await page.goto(order.wpay_url);
    await shows(page, /已取消/);
    const names = Object.keys(sizes);
    assert.deepEqual(names.filter((name) => /wasm/.test(name)), []);
    const script = names.find((name) => /bridge\..*\.js$/.test(name));
    assert.ok(sizes[script] > 0 && sizes[script] <= 4_000, `${script}: ${sizes[script]} bytes`);
    const html = names.find((name) => /\/wpay\//.test(name));
    assert.ok(sizes[html] <= 30_000, `${sizes[html]} bytes`);
    console.log(`    ${sizes[script]} bytes of script, ${sizes[html]} bytes of HTML`);
  }, { outcomes: ['cancel'] });
});
