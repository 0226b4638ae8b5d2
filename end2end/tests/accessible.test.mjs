// axe-core on every state of every page, light and dark, with and without script: nothing serious or critical. Then what a
// program cannot judge by rules alone: the keyboard, a page zoomed to 400 %, motion, and the language.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, phone, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';
import { awake, push, states, visit } from '../lib/states.mjs';

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

/** axe needs script to look at a page. Where none may run, it looks at a copy: the same document as such a browser reads it,
 *  with what it shows instead of scripts, at the same address and size. */
async function copyFor(context, page) {
  const swapped = (style) => style.replace(/scripting:\s*(none|enabled)/g, (_, is) => `scripting:${is === 'none' ? 'enabled' : 'none'}`);
  const html = swapped(await page.content())
    .replace(/<script\b[\s\S]*?<\/script>/g, '')
    .replace(/<\/?noscript\b[^>]*>/g, '')
    .replace(/<meta[^>]*http-equiv="?refresh[^>]*>/gi, '');
  const copy = await context.newPage();
  await copy.route(/\.css(\?|$)/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: swapped(await response.text()) });
  });
  await copy.route('**/*', (route) => (route.request().isNavigationRequest()
    ? route.fulfill({ contentType: 'text/html; charset=utf-8', body: html }) : route.fallback()));
  await copy.goto(page.url());
  const texts = await Promise.all([page, copy].map(visibleText));
  assert.equal(texts[1], texts[0], 'the copy shows what the page shows');
  return copy;
}

async function assertAccessible(page, what) {
  await page.evaluate(axe);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    assert.deepEqual(bad.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.html) })), [], `${what}, ${colorScheme}`);
  }
}

describe('axe-core finds nothing serious, light and dark, with and without script', () => {
  // What is gone within three seconds is in pad.test.mjs.
  for (const state of states.filter(({ brief }) => !brief)) {
    test(state.name, async () => {
      await visit(demo, browser, state, async (page, { size, script, order }) => {
        if (state.name.endsWith(': confirming')) {
          assert.equal(await page.getByRole('radio').count(), 0, 'no other method while it is being found out');
          assert.match(await visibleText(page), /请勿重复付款/);
        }
        if (order) {
          const text = await visibleText(page);
          assert.ok(text.includes(state.name.startsWith('pad') ? order.order_number.slice(-4) : order.order_number), 'names the order');
          assert.ok(text.includes((order.total_fee / 100).toFixed(2)), 'names the amount');
        }
        assert.ok((await page.title()).length > 2);
        if (script) return assertAccessible(page, size);
        const context = await browser.newContext({ viewport: page.viewportSize() });
        try {
          await assertAccessible(await copyFor(context, page), `${size}, no script`);
        } finally {
          await context.close();
        }
      });
    });
  }
});

/** A fresh order's page, awake, for `look`. */
async function open(device, query, look, fields = {}) {
  const shopper = await browser.newContext(device);
  try {
    const page = await shopper.newPage();
    const order = await demo.order({ return_url: 'https://mall.example.com/orders', ...fields });
    await page.goto(order.checkout_url + query);
    if (device.javaScriptEnabled !== false) await awake(page);
    await look(page, order);
  } finally {
    await shopper.close();
  }
}

describe('each code has its mark in the middle, and is read all the same', () => {
  const codes = { 微: ['?channel=wx', /^weixin:/], 支: ['?channel=ali', /^https:\/\/qr\.alipay\.com\//], '¥': ['?way=any', /\/pay\//] };
  for (const [mark, [query, content]] of Object.entries(codes)) {
    test(mark, async () => {
      await open({ ...desktop, viewport: { width: 1280, height: 900 } }, query, async (page) => {
        const code = page.getByRole('img', { name: /二维码/ });
        assert.equal(await code.locator('text').textContent(), mark);
        const [all, spot] = await Promise.all([code, code.locator('.spot')].map((part) => part.boundingBox()));
        for (const [at, size] of [['x', 'width'], ['y', 'height']]) {
          assert.ok(Math.abs(all[at] + all[size] / 2 - spot[at] - spot[size] / 2) < 1, `in the middle: ${JSON.stringify([all, spot])}`);
        }
        assert.ok(spot.width > 24, `${spot.width}`);
        const text = scan(await picture(page, `mark-${content.source}`));
        assert.match(text, content);
        // As small as a phone sees it from a metre away.
        for (const width of [200, 150, 110]) {
          await code.evaluate((node, to) => { node.style.width = node.style.height = `${to}px`; }, width);
          assert.equal(scan(await picture(page, 'mark-small')), text, `${width} px`);
        }
      });
    });
  }
});

test('the QR code is in the first 1280 x 900 of a desktop, and scans in the dark and at phone size', async () => {
  for (const [name, device] of Object.entries({ desktop, phone })) {
    await open({ ...device, colorScheme: 'dark' }, '?channel=wx&way=scan', async (page) => {
      const code = page.getByRole('img', { name: /二维码/ }).first();
      if (name === 'phone') await code.scrollIntoViewIfNeeded();
      assert.match(scan(await picture(page, `scan-${name}-dark`)), /^weixin:/);
    });
  }
});

describe('the keyboard', () => {
  test('reaches everything, shows where it is, and is never trapped', async () => {
    await open(desktop, '?channel=wx', async (page) => {
      const wanted = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input:not([type=hidden])')]
        // Of a group of radio buttons the keyboard stops at the chosen one.
        .filter((node) => node.checkVisibility() && node.getAttribute('href') !== '' && (node.type !== 'radio' || node.checked)).length);
      const reached = new Set();
      for (let press = 0; press < 40; press += 1) {
        await page.keyboard.press('Tab');
        const at = await page.evaluate(() => {
          const node = document.activeElement;
          if (node === document.body || node === document.documentElement) return null;
          const ring = [node, node.closest('.method')].filter(Boolean).map((shown) => getComputedStyle(shown));
          return { is: node.outerHTML, seen: ring.some((style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) };
        });
        if (!at || reached.has(at.is)) break; // past the end, or around
        assert.ok(at.seen, `no ring around ${at.is}`);
        reached.add(at.is);
      }
      assert.equal(reached.size, wanted, [...reached].join('\n'));
      assert.ok(wanted >= 5, `${wanted} stops`);
    });
  });

  test('arrow keys choose the method, and the code follows', async () => {
    await open(desktop, '?channel=wx', async (page) => {
      await page.getByRole('radio', { name: /微信/ }).focus();
      await page.keyboard.press('ArrowDown');
      await page.getByRole('heading', { name: '请使用支付宝扫一扫付款' }).waitFor();
      assert.equal(await page.evaluate(() => document.activeElement.value), 'ali', 'the focus is not lost');
      assert.match(page.url(), /channel=ali/);
      await page.keyboard.press('ArrowUp');
      await page.getByRole('heading', { name: '请使用微信扫一扫付款' }).waitFor();
    });
  });
});

test('the regions that are read out speak when the state changes, not each second', async () => {
  await open(desktop, '?channel=wx', async (page, order) => {
    assert.equal(await page.getByRole('status').count(), 1);
    assert.equal(await page.getByRole('alert').count(), 1);
    assert.equal(await page.locator('.countdown').getAttribute('aria-hidden'), 'true');
    await page.evaluate(() => {
      window.said = [];
      window.faces = 0;
      const digits = document.querySelector('.digits');
      new MutationObserver(() => { window.faces += 1; }).observe(digits, { childList: true, characterData: true, subtree: true });
      for (const region of document.querySelectorAll('[role=status], [role=alert]')) {
        new MutationObserver(() => window.said.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
      }
    });
    await until('three seconds were counted', () => page.evaluate(() => window.faces >= 3));
    assert.deepEqual(await page.evaluate(() => window.said), []);
    await demo.pay(await push({ demo, order }));
    await until('it is said', async () => (await page.getByRole('status').textContent()) === '支付成功，金额 12.34 元');
    assert.equal(await page.title(), '支付成功 ¥12.34');
  });
});

describe('when the screen is replaced', () => {
  const paid = async (page, order) => {
    await demo.pay(await push({ demo, order }));
    await page.getByRole('heading', { name: '支付成功' }).waitFor();
  };
  test('the new heading gets the focus if that was inside', async () => {
    await open(desktop, '?channel=wx', async (page, order) => {
      await page.getByRole('radio', { name: /微信/ }).focus();
      await paid(page, order);
      await until('the heading has it', () => page.evaluate(() => document.activeElement.id === 'heading'));
    });
  });
  test('the focus stays where it is if it was elsewhere', async () => {
    await open(desktop, '?channel=wx', async (page, order) => {
      await page.getByRole('link', { name: 'English' }).focus();
      await paid(page, order);
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      assert.equal(await page.evaluate(() => document.activeElement.lang), 'en');
    });
  });
});

test('targets are at least 44 px high, and nobody forbids to zoom', async () => {
  for (const query of ['?channel=wx', '?channel=ali&way=scan']) {
    await open(phone, query, async (page) => {
      const low = await page.evaluate(() => [...document.querySelectorAll('a[href], button, label.method')]
        .filter((node) => node.checkVisibility() && node.getAttribute('href') !== '' && node.getBoundingClientRect().height < 43.9)
        .map((node) => node.outerHTML));
      assert.deepEqual(low, []);
      assert.doesNotMatch(await page.locator('meta[name=viewport]').getAttribute('content'), /user-scalable|maximum-scale/);
    });
  }
});

test('printed, it is a receipt: the result, the amount, the number, and nothing to press', async () => {
  await open(desktop, '', async (page, order) => {
    await demo.pay(await push({ demo, order }));
    await page.getByRole('heading', { name: '支付成功' }).waitFor();
    await page.emulateMedia({ media: 'print' });
    const text = await visibleText(page);
    for (const part of ['支付成功', '12.34', order.order_number, '示例商城', 'A test']) assert.ok(text.includes(part), part);
    assert.doesNotMatch(text, /复制|返回商家|English|刷新/);
  });
});

test('zoomed to 400 %: nothing is cut off, nothing is lost, the code can be scanned', async () => {
  for (const query of ['?channel=wx&way=scan', '?channel=ali&way=here', '?channel=wx&lang=en']) {
    await open({ ...desktop, viewport: { width: 320, height: 256 } }, query, async (page, order) => {
      const wide = await page.evaluate(() => [...document.querySelectorAll('main *')]
        .filter((node) => node.checkVisibility() && !node.closest('.spoken') && !node.closest('svg'))
        .filter((node) => {
          const { left, right, width } = node.getBoundingClientRect();
          return width > 0 && (left < 0 || right > 320 || node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === 'hidden');
        }).map((node) => node.outerHTML.slice(0, 80)));
      assert.deepEqual(wide, [], query);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
      const text = await visibleText(page);
      for (const part of ['12.34', 'A test', order.order_number, /返回商家|Back to the merchant/]) assert.match(text, new RegExp(part), query);
      const code = page.getByRole('img', { name: /二维码|QR code/ });
      if (query.includes('here')) return;
      await code.scrollIntoViewIfNeeded();
      const path = await picture(page, 'zoom');
      await code.screenshot({ path, scale: 'device' });
      assert.match(scan(path), /^weixin:/);
    }, { title: 'A test' });
  }
});

test('who wants no motion gets none', async () => {
  for (const [reducedMotion, some] of [['reduce', false], ['no-preference', true]]) {
    await open({ ...desktop, reducedMotion }, '?channel=wx', async (page) => {
      await page.getByRole('button', { name: /我已支付/ }).click();
      await page.getByRole('heading', { name: '正在确认支付结果' }).waitFor();
      assert.equal(await page.evaluate(() => document.getAnimations().length > 0), some, reducedMotion);
    });
  }
});

describe('another language, the same state', () => {
  test("the order's language comes before the browser's", async () => {
    await open(desktop, '', async (page) => {
      assert.equal(await page.evaluate(() => document.documentElement.lang), 'en');
      await page.getByRole('heading', { name: 'Scan with WeChat to pay' }).waitFor();
    }, { locale: 'en' });
  });

  for (const javaScriptEnabled of [true, false]) {
    test(`method and way stay${javaScriptEnabled ? '' : ', without JavaScript'}`, async () => {
      await open({ ...phone, javaScriptEnabled }, '?channel=ali&way=scan', async (page) => {
        await page.getByRole('link', { name: 'English' }).click();
        await page.getByRole('heading', { name: 'Scan with Alipay to pay' }).waitFor();
        assert.equal(await page.evaluate(() => document.documentElement.lang), 'en');
        await page.getByRole('link', { name: '中文' }).click();
        await page.getByRole('heading', { name: '请使用支付宝扫一扫付款' }).waitFor();
      });
    });
  }

  test('also the method that was chosen on the page', async () => {
    await open(desktop, '?channel=wx', async (page) => {
      await page.getByRole('radio', { name: /支付宝/ }).check({ force: true });
      await page.getByRole('heading', { name: '请使用支付宝扫一扫付款' }).waitFor();
      await page.getByRole('link', { name: 'English' }).click();
      await until('it is English', async () => (await page.evaluate(() => document.documentElement.lang).catch(() => '')) === 'en');
      assert.equal(await page.getByRole('radio', { name: 'Alipay' }).isChecked(), true);
      await page.getByRole('heading', { name: 'Scan with Alipay to pay' }).waitFor();
    });
  });
});
