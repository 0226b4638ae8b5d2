// The tablet on the counter, in a real browser: paired by a code, shown orders by the till's calls, its QR code read off a
// screenshot and paid, and idle again by itself. Also with streams blocked, without JavaScript, without a network.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { launch, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const tablet = { viewport: { width: 1280, height: 800 }, locale: 'zh-CN', hasTouch: true,
  userAgent: 'Mozilla/5.0 (Linux; Android 10; SM-T515) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.0.0 Safari/537.36' };

let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'pad' }), launch()]);
});
after(async () => {
  await browser?.close();
  const how = await demo?.stop();
  assert.equal(how?.code, 0, 'SIGTERM drains and exits 0, open streams or not');
});

// How the tablet learns of things, and how long that may take.
const ways = [
  { way: 'SSE', within: 1000 },
  { way: 'polling', within: 3000, block: '**/events' },
  { way: 'no JavaScript', within: 7000, context: { javaScriptEnabled: false } },
];

describe('an order appears, is paid, and the tablet is idle again', () => {
  for (const { way, within, block, context } of ways) {
    test(`${way}: each step within ${within} ms`, async () => {
      await withTablet({ ...context, block }, async ({ page, show, complaints }) => {
        const scripted = way !== 'no JavaScript';
        if (scripted) await page.evaluate(() => { window.notReloaded = true; });
        for (const [channel, method, code] of [['wx', '微信', /^weixin:\/\/wxpay\/bizpayurl/], ['ali', '支付宝', /^https:\/\/qr\.alipay\.com\//]]) {
          let from = performance.now();
          const order = await show();
          await page.getByRole('img', { name: /二维码/ }).waitFor();
          const appeared = Math.round(performance.now() - from);
          if (channel === 'ali') await page.getByRole('button', { name: '支付宝', exact: true }).click();
          await page.getByRole('heading', { name: new RegExp(`请使用${method}扫一扫`) }).waitFor();
          const text = await visibleText(page);
          assert.match(text, /应付\s+¥12\.34[^]*剩余支付时间 1:59:\d\d/);
          assert.match(text, new RegExp(`订单 …${order.order_number.slice(-4)}`));
          assert.doesNotMatch(text, /支付成功/);
          const shot = await picture(page, `pad-${way}-${channel}`);
          assert.match(scan(shot), code);
          await large(page);
          from = performance.now();
          await demo.pay(scan(shot));
          await page.getByRole('heading', { name: '支付成功' }).waitFor({ timeout: 15_000 });
          const paid = Math.round(performance.now() - from);
          await picture(page, `pad-${way}-${channel}-paid`);
          assert.equal((await demo.orderNow(order.order_number)).payments[0].channel, channel);
          from = performance.now();
          await page.getByRole('heading', { name: '等待收款' }).waitFor();
          const idle = Math.round(performance.now() - from);
          console.log(`    ${way}, ${channel}: shown after ${appeared} ms, paid after ${paid} ms, idle ${idle} ms later`);
          assert.ok(appeared <= within && paid <= within, `at most ${within} ms`);
          assert.ok(idle > 1500 && idle <= 3000 + (scripted ? 1000 : 4000), `${idle} ms`);
        }
        if (scripted) {
          assert.equal(await page.evaluate(() => window.notReloaded), true, 'the page was not loaded anew');
          assert.equal(await page.evaluate(() => document.documentElement.dataset.chimed), '2');
        }
        if (!block) assert.deepEqual(complaints, []);
      });
    });
  }
});

test('who is not paired sees the pairing form and nothing else', async () => {
  await withTablet({}, async ({ page, show }) => {
    const order = await show();
    await page.getByRole('img', { name: /二维码/ }).waitFor();
    const stranger = await browser.newContext(tablet);
    try {
      const other = await stranger.newPage();
      for (const query of ['', '?view=staff', '?view=receipt', '?part=screen', '?part=screen&view=staff']) {
        await other.goto(`${demo.base}/pad/demo${query}`);
        const text = await visibleText(other);
        assert.match(text, /配对收款平板/);
        assert.doesNotMatch(await other.content(), new RegExp(`12\\.34|${order.order_number.slice(-4)}|qr`));
      }
      await other.goto(`${demo.base}/pad/demo`);
      await other.getByLabel('配对码').fill('0000-0000');
      await other.getByRole('button', { name: '配对' }).click();
      await other.getByRole('alert').filter({ hasText: '配对码不正确' }).waitFor();
      await accessible(other, 'pad-wrong-code');
    } finally {
      await stranger.close();
    }
  });
});

test('no network: a band across the screen; what happened meanwhile is there afterwards', async () => {
  await withTablet({}, async ({ context, page, show }) => {
    await show();
    await page.getByRole('img', { name: /二维码/ }).waitFor();
    await context.setOffline(true);
    const band = page.getByRole('alert').filter({ hasText: '网络已断开' });
    await band.waitFor({ timeout: 4000 });
    const { box, size } = await band.evaluate((node) => ({ box: node.getBoundingClientRect().toJSON(), size: getComputedStyle(node).fontSize }));
    assert.equal(box.width, tablet.viewport.width);
    assert.ok(parseFloat(size) >= 40 && box.height >= 80, JSON.stringify(box));
    await picture(page, 'pad-offline');
    const order = await show();
    await context.setOffline(false);
    await page.getByText(`…${order.order_number.slice(-4)}`).waitFor({ timeout: 5000 });
    await band.waitFor({ state: 'hidden' });
  });
});

test('the service is killed: the band says so; after its start the order is still there', async () => {
  await withTablet({}, async ({ page, show }) => {
    const order = await show();
    await page.getByRole('img', { name: /二维码/ }).waitFor();
    await demo.kill9();
    await page.getByText('网络已断开').waitFor({ timeout: 6000 });
    await demo.start();
    await page.getByText('网络已断开').waitFor({ state: 'hidden', timeout: 6000 });
    assert.match(await visibleText(page), new RegExp(`…${order.order_number.slice(-4)}`));
    const newer = await show();
    await page.getByText(`…${newer.order_number.slice(-4)}`).waitFor({ timeout: 20_000 });
  });
});

test('staff: a long press or the keyboard opens it; cancel, switch, new code, last orders, print', async () => {
  await withTablet({}, async ({ page, show, paid }) => {
    await paid();
    const order = await show();
    await page.getByRole('img', { name: /二维码/ }).waitFor();
    await page.locator('.tail').hover();
    await page.mouse.down();
    await page.getByRole('heading', { name: '店员操作' }).waitFor();
    await page.mouse.up();
    const rows = await page.getByRole('row').allInnerTexts();
    assert.match(rows[1], new RegExp(`…${order.order_number.slice(-4)}\\s+¥12\\.34\\s+待支付`));
    assert.match(rows[2], /支付成功\s+20\d\d-\d\d-\d\d \d\d:\d\d:\d\d/);
    await picture(page, 'pad-staff');
    await page.getByRole('button', { name: '改用支付宝' }).click();
    await page.getByRole('heading', { name: /支付宝扫一扫/ }).waitFor();
    // By the keyboard alone.
    await page.getByRole('link', { name: '店员' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: '店员操作' }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'staff');
    await page.getByRole('button', { name: '重新获取二维码' }).click();
    await page.getByRole('heading', { name: '店员操作' }).waitFor({ state: 'hidden' });
    await page.getByRole('img', { name: /支付宝二维码/ }).waitFor();
    await page.getByRole('link', { name: '店员' }).click();
    await page.getByRole('heading', { name: '店员操作' }).waitFor();
    await page.emulateMedia({ media: 'print' });
    const printed = await visibleText(page);
    assert.match(printed, /收款凭证[^]*¥ 12\.34[^]*支付成功/);
    assert.doesNotMatch(printed, /店员操作|应付/);
    await page.emulateMedia({ media: 'screen' });
    await page.evaluate(() => { window.print = () => { window.printed = true; }; });
    await page.getByRole('link', { name: '重新打印' }).click();
    assert.equal(await page.evaluate(() => window.printed), true);
    await page.getByRole('button', { name: '取消收款' }).click();
    await page.getByRole('heading', { name: '等待收款' }).waitFor();
    assert.equal((await demo.orderNow(order.order_number)).state, 'pending');
  });
});

test('staff without JavaScript: the receipt is a page of its own', async () => {
  await withTablet({ javaScriptEnabled: false }, async ({ page, show, paid }) => {
    await paid();
    await show();
    await page.getByRole('link', { name: '店员' }).click();
    await page.getByRole('link', { name: '重新打印' }).click();
    assert.match(await visibleText(page), /收款凭证/);
    await page.getByRole('link', { name: '完成' }).click();
    await page.getByRole('link', { name: '店员' }).click();
    await page.getByRole('button', { name: '取消收款' }).click();
    await page.getByRole('heading', { name: '等待收款' }).waitFor();
  });
});

describe('a PIN for staff', () => {
  let guarded;
  before(async () => { guarded = await startDemo({ name: 'pad-pin', padPin: '2580' }); });
  after(async () => { await guarded?.stop(); });
  const shows = (page, heading) => page.getByRole('heading', { name: heading }).waitFor();

  for (const javaScriptEnabled of [true, false]) {
    test(`${javaScriptEnabled ? 'with' : 'without'} JavaScript: asked for once, wrong ones are said, locked again by "done"`, async () => {
      await withTablet({ demo: guarded, javaScriptEnabled }, async ({ page, pad, show, paid, complaints }) => {
        await paid();
        const order = await show();
        await page.getByRole('img', { name: /二维码/ }).waitFor();
        if (javaScriptEnabled) await page.evaluate(() => { window.notReloaded = true; });
        const pin = page.getByLabel('店员 PIN 码');
        await page.getByRole('link', { name: '店员' }).click();
        await pin.waitFor();
        if (javaScriptEnabled) assert.equal(await page.evaluate(() => document.activeElement.id), 'pin');
        const text = await visibleText(page);
        assert.match(text, /应付\s+¥12\.34/, 'the customer still sees what is to be paid');
        assert.doesNotMatch(text, /最近五笔|取消收款/);
        await pin.fill('0000');
        await page.keyboard.press('Enter');
        await page.getByText('PIN 码不正确').waitFor();
        if (javaScriptEnabled) {
          await accessible(page, 'pad-pin');
          // The till puts another order on the tablet while staff type.
          await pin.fill('25');
          const newer = await guarded.order();
          await guarded.api('PUT', `/rest/pads/${pad}/order`, { order_type: 'Order', order_number: newer.order_number });
          await page.getByText(`…${newer.order_number.slice(-4)}`).waitFor();
          assert.equal(await pin.inputValue(), '25', 'nobody is interrupted while typing');
        }
        await pin.fill('2580');
        await page.getByRole('button', { name: '解锁' }).click();
        await page.getByText('最近五笔').waitFor();
        await page.getByRole('button', { name: '取消收款' }).click();
        await shows(page, '等待收款');
        // Still open, until staff say that they are done.
        await page.getByRole('link', { name: '店员' }).click();
        await page.getByText('最近五笔').waitFor();
        await page.getByRole('button', { name: '完成' }).click();
        await page.getByText('最近五笔').waitFor({ state: 'hidden' });
        await page.getByRole('link', { name: '店员' }).click();
        await pin.waitFor();
        await page.getByRole('link', { name: '完成' }).click();
        await pin.waitFor({ state: 'hidden' });
        assert.equal((await guarded.orderNow(order.order_number)).state, 'pending');
        if (javaScriptEnabled) {
          assert.equal(await page.evaluate(() => window.notReloaded), true, 'the page was not loaded anew');
          // What the browser itself notes of answers with 403.
          assert.deepEqual(complaints.filter((line) => !line.includes('403')), []);
        }
      });
    });
  }
});

test('the screen stays on, also after the page was hidden; without sound there is a button for it', async () => {
  const stub = () => {
    window.locks = [];
    Object.defineProperty(navigator, 'wakeLock', { value: { request: (kind) => {
      const lock = { kind, released: false };
      window.locks.push(lock);
      return Promise.resolve(lock);
    } } });
    // A wrong clock: nothing on the page may follow it.
    const off = 86_400_000;
    const real = Date.now;
    Date.now = () => real() + off;
    // As before the first touch.
    window.AudioContext = class { state = 'suspended'; resume() { this.state = 'running'; this.onstatechange?.(); return Promise.resolve(); } };
  };
  await withTablet({ script: stub }, async ({ page, show }) => {
    assert.deepEqual(await page.evaluate(() => window.locks.map(({ kind }) => kind)), ['screen']);
    await page.evaluate(() => {
      window.locks[0].released = true;
      document.dispatchEvent(new Event('visibilitychange'));
    });
    assert.equal(await page.evaluate(() => window.locks.length), 2);
    const sound = page.getByRole('button', { name: '开启提示音' });
    await sound.click();
    await sound.waitFor({ state: 'hidden' });
    await show({ expires_in: 1800 });
    await page.getByRole('img', { name: /二维码/ }).waitFor();
    assert.match(await page.locator('.digits').innerText(), /^29:5\d$/);
    const first = await page.locator('.digits').innerText();
    await until('the digits go on', async () => (await page.locator('.digits').innerText()) !== first);
  });
});

test('the demo: the mall says how a tablet is paired, and then puts an order on it', async () => {
  for (const { pad } of (await demo.api('GET', '/rest/pads')).json.data.pads) await demo.api('DELETE', `/rest/pads/${pad}`);
  const [clerk, counter] = [await browser.newContext({ locale: 'zh-CN' }), await browser.newContext(tablet)];
  try {
    const [till, page] = [await clerk.newPage(), await counter.newPage()];
    await till.goto(`${demo.base}/mall`);
    await till.locator('form button').first().click();
    await till.waitForURL('**/pay/**');
    await till.goto(`${demo.base}/mall`);
    const number = await till.locator('[data-order]').first().getAttribute('data-order');
    const button = till.locator(`[data-order="${number}"]`).getByRole('button', { name: '在平板上收款' });
    await button.click();
    await page.goto(await till.getByRole('link', { name: '/pad/demo' }).getAttribute('href'));
    await page.getByLabel('配对码').fill(await till.locator('b').innerText());
    await page.getByRole('button', { name: '配对' }).click();
    await page.getByRole('heading', { name: '等待收款' }).waitFor();
    await till.getByRole('link', { name: '返回商城' }).click();
    await button.click();
    await page.getByText(`…${number.slice(-4)}`).waitFor({ timeout: 3000 });
  } finally {
    await Promise.all([clerk.close(), counter.close()]);
  }
});

test('a pad that is removed is a stranger from then on', async () => {
  await withTablet({}, async ({ page, pad }) => {
    assert.equal((await demo.api('DELETE', `/rest/pads/${pad}`)).status, 200);
    await page.getByRole('heading', { name: '配对收款平板' }).waitFor({ timeout: 2000 });
  });
});

describe('axe-core finds nothing serious', () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const [size, viewport] of [['tablet', tablet.viewport], ['upright', { width: 800, height: 1280 }]]) {
      test(`${size}, ${colorScheme}: pairing, idle, order, staff, success, expired`, async () => {
        const check = (page, state) => accessible(page, `pad-${state}-${size}-${colorScheme}`);
        await withTablet({ colorScheme, viewport, before: (page) => check(page, 'pairing') }, async ({ page, show }) => {
          await check(page, 'idle');
          const order = await show({ total_fee: 1_234_567 });
          await page.getByRole('img', { name: /二维码/ }).waitFor();
          await check(page, 'order');
          const code = scan(await picture(page, `pad-scan-${size}-${colorScheme}`));
          await page.getByRole('link', { name: '店员' }).click();
          await page.getByRole('heading', { name: '店员操作' }).waitFor();
          await check(page, 'staff');
          await page.getByRole('link', { name: '完成' }).click();
          await demo.pay(code);
          await page.getByRole('heading', { name: '支付成功' }).waitFor();
          await check(page, 'paid');
          assert.equal((await demo.orderNow(order.order_number)).state, 'paid');
          const closed = await show();
          await page.getByRole('img', { name: /二维码/ }).waitFor();
          await demo.api('POST', `/rest/orders/Order/${closed.order_number}/close`);
          await page.getByRole('heading', { name: '订单已关闭' }).waitFor();
          assert.match(await page.locator('body > [role=alert].spoken').textContent(), /没有发生扣款/);
          await check(page, 'closed');
          await page.getByRole('heading', { name: '等待收款' }).waitFor({ timeout: 12_000 });
        });
      });
    }
  }
});

/** Pairs a tablet as a person does, and gives it to `use`, with what its till can do. */
async function withTablet({ demo: at = demo, block, script, before: first, ...options }, use) {
  const context = await browser.newContext({ ...tablet, ...options });
  try {
    const page = await context.newPage();
    const complaints = []; // of the content security policy, of scripts
    page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
    page.on('pageerror', (error) => complaints.push(error.message));
    if (script) await page.addInitScript(script);
    if (block) await page.route(block, (route) => route.abort());
    const made = await at.api('POST', '/rest/pads');
    assert.equal(made.status, 201, made.text);
    const { pad, pairing_code: code, pad_url: address } = made.json.data;
    await page.goto(address);
    await first?.(page);
    await page.getByLabel('配对码').fill(code.toLowerCase());
    await page.getByRole('button', { name: '配对' }).click();
    await page.getByRole('heading', { name: '等待收款' }).waitFor();
    const show = async (fields) => {
      const order = await at.order(fields);
      const answer = await at.api('PUT', `/rest/pads/${pad}/order`, { order_type: 'Order', order_number: order.order_number });
      assert.equal(answer.status, 200, answer.text);
      return order;
    };
    const paid = async () => {
      const order = await show();
      const pushed = await at.api('POST', '/rest/wx/push_order',
        { order_type: 'Order', order_number: order.order_number, type: 'NATIVE' });
      await at.pay(pushed.json.data.codeUrl);
      await until('paid', async () => (await at.orderNow(order.order_number)).state === 'paid');
      await page.getByRole('heading', { name: '等待收款' }).waitFor({ timeout: 15_000 });
      return order;
    };
    await use({ context, page, pad, show, paid, complaints });
  } finally {
    await context.close();
  }
}

/** The amount and the code are as large as they must be. */
async function large(page) {
  assert.equal(await page.locator('.bill .amount').evaluate((node) => getComputedStyle(node).fontSize), '96px');
  const { width, height } = await page.getByRole('img', { name: /二维码/ }).boundingBox();
  assert.ok(width >= 280 && height >= 280, `${width} x ${height}`);
}

async function accessible(page, name) {
  await picture(page, name);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(bad.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.html) })), [], name);
}
