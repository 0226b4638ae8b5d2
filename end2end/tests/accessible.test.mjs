// axe-core on every state of every page, light and dark: nothing serious or critical. Then what a program cannot judge by
// rules alone: the keyboard, a page zoomed to 400 %, motion, and the language.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, phone, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';
import { awake, states, visit } from '../lib/states.mjs';

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

describe('axe-core finds nothing serious, light and dark', () => {
  // What is gone within three seconds is in pad.test.mjs.
  for (const state of states.filter(({ brief }) => !brief)) {
    test(state.name, async () => {
      await visit(demo, browser, state, async (page, { size }) => {
        await page.evaluate(axe);
        for (const colorScheme of ['light', 'dark']) {
          await page.emulateMedia({ colorScheme });
          const { violations } = await page.evaluate(() => globalThis.axe.run(document));
          const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
          assert.deepEqual(bad.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.html) })), [],
            `${size}, ${colorScheme}`);
        }
      }, { scripts: [true] });
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
      assert.ok(wanted >= 6, `${wanted} stops`);
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
