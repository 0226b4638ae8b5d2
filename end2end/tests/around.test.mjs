// What happens around the card: the icon of the tab, the way back by itself, and what a page that frames the checkout hears.
// The service is one in production form, with a shop of the test's own around it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, visibleText } from '../lib/browser.mjs';
import { startEmulator, until } from '../lib/demo.mjs';
import { serveFor } from '../lib/serve.mjs';
import { awake } from '../lib/states.mjs';

let emulator;
let browser;
let service;
const shops = [];
before(async () => {
  [emulator, browser] = await Promise.all([startEmulator({ name: 'around' }), launch()]);
  shops.push(await shop(), await shop());
  service = await serveFor(emulator, { merchant: `embed_origins = ["${shops[0].origin}"]\nreturn_after_s = 5` });
});
after(async () => {
  await browser?.close();
  for (const { stop } of shops) stop();
  const status = await service?.stop();
  await emulator?.stop();
  assert.equal(status, 0);
});

/** A shop on an origin of its own: `/around?URL` frames a page and keeps what it says; anything else is an empty page. */
async function shop() {
  const server = createServer((asked, answer) => {
    const framed = asked.url.startsWith('/around?') ? decodeURIComponent(asked.url.slice('/around?'.length)) : '';
    answer.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(`<!DOCTYPE html><title>shop</title>
      <script>window.heard = []; addEventListener('message', (event) => heard.push({ from: event.origin, said: event.data }));</script>
      ${framed && `<iframe src="${framed}" width="400" height="600"></iframe>`}`);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { origin: `http://127.0.0.1:${server.address().port}`, stop: () => { server.close(); server.closeAllConnections(); } };
}

async function pay(order) {
  const answer = await service.push('wx', order);
  await emulator.pay(answer.json.data.codeUrl);
}
const paid = (page) => page.getByRole('heading', { name: '支付成功' }).waitFor();
/** A page of a browser of its own; its clock runs, and can be moved ahead. */
const visit = async (look, context = {}) => {
  const shopper = await browser.newContext({ ...desktop, ...context });
  try {
    await shopper.clock.install();
    await look(await shopper.newPage());
  } finally {
    await shopper.close();
  }
};

describe('the icon of the tab', () => {
  for (const [state, icon, happens] of [
    ['paid', '/favicon-paid.svg', pay],
    ['closed', '/favicon-attention.svg', (order) => service.api('POST', `/rest/orders/Order/${order.order_number}/close`)],
  ]) {
    test(`${state}: switched while the page is open, and so in the first HTML`, async () => {
      const order = await service.order();
      await visit(async (page) => {
        await page.goto(order.checkout_url);
        await awake(page);
        const shown = () => page.locator('link[rel=icon]').getAttribute('href');
        assert.equal(await shown(), '/favicon.svg');
        await page.evaluate(() => { window.notReloaded = true; });
        await happens(order);
        await until(`the icon says ${state}`, async () => (await shown()) === icon);
        assert.equal(await page.evaluate(() => window.notReloaded), true);
      });
      assert.ok((await (await fetch(order.checkout_url)).text()).includes(`rel="icon" href="${icon}"`));
      const file = await fetch(service.base + icon);
      assert.equal(file.headers.get('content-type'), 'image/svg+xml');
    });
  }
});

describe('return_after_s', () => {
  const returning = { name: /留在本页/ };
  const at = (order) => `${shops[1].origin}/done?order_type=Order&order_number=${order.order_number}`;
  const open = async (look, context) => {
    const order = await service.order({ return_url: `${shops[1].origin}/done` });
    await visit(async (page) => {
      await page.goto(order.checkout_url);
      if (context?.javaScriptEnabled !== false) await awake(page);
      await look(page, order);
    }, context);
  };

  test('paid: counted down to be seen, said once, and then at the shop; who comes back stays', async () => {
    await open(async (page, order) => {
      assert.equal(await page.getByRole('button', returning).count(), 0, 'nothing before it is paid');
      await page.evaluate(() => {
        window.said = [];
        new MutationObserver(() => window.said.push(document.querySelector('[role=status]').textContent))
          .observe(document.querySelector('[role=status]'), { childList: true, characterData: true, subtree: true });
      });
      await pay(order);
      await paid(page);
      const from = performance.now();
      const seen = new Set();
      const said = [];
      while (page.url() !== at(order) && performance.now() - from < 15_000) {
        const text = await page.locator('.returning').innerText({ timeout: 300 }).catch(() => '');
        const left = text.match(/(\d+) 秒后自动返回商家/)?.[1];
        if (left) seen.add(Number(left));
        const list = await page.evaluate(() => window.said).catch(() => undefined);
        if (list) said.splice(0, said.length, ...list);
      }
      const took = performance.now() - from;
      assert.equal(page.url(), at(order));
      assert.ok(took >= 4_000 && took < 8_000, `${took} ms`);
      for (const second of [5, 4, 3, 2, 1]) assert.ok(seen.has(second), `${second} was shown: ${[...seen]}`);
      assert.equal(said.filter((text) => /自动返回/.test(text)).length, 1, said.join(' | '));
      await page.goBack();
      await paid(page);
      await page.clock.runFor(10_000);
      assert.equal(page.url().split('?')[0], order.checkout_url, 'who came back looks at the receipt');
    });
  });

  for (const [how, cancel] of [
    ['the button', (page) => page.getByRole('button', returning).click()],
    ['Escape', (page) => page.keyboard.press('Escape')],
  ]) {
    test(`can be stopped with ${how}, and nothing moves by itself`, async () => {
      await open(async (page, order) => {
        await pay(order);
        await page.getByRole('button', returning).waitFor();
        assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
        await cancel(page);
        await page.getByRole('button', returning).waitFor({ state: 'hidden' });
        await page.clock.runFor(10_000);
        assert.equal(page.url().split('?')[0], order.checkout_url);
        assert.equal(await page.getByRole('link', { name: '返回商家' }).getAttribute('href'), at(order));
      }, { reducedMotion: 'reduce' });
    });
  }

  test('opened after it was paid, the page stays', async () => {
    const order = await service.order({ return_url: `${shops[1].origin}/done` });
    await pay(order);
    await until('paid', async () => (await service.now(order)).state === 'paid');
    await visit(async (page) => {
      await page.goto(order.checkout_url);
      await awake(page);
      await page.clock.runFor(10_000);
      assert.equal(page.url().split('?')[0], order.checkout_url);
    });
  });

  test('no island wakes: it returns all the same', async () => {
    const order = await service.order({ return_url: `${shops[1].origin}/done` });
    await visit(async (page) => {
      await page.route('**/*.wasm', (route) => route.abort());
      await page.goto(order.checkout_url);
      await pay(order);
      await page.waitForURL(at(order), { timeout: 20_000 });
    });
  });

  test('without JavaScript there is the link alone', async () => {
    await open(async (page, order) => {
      await pay(order);
      await until('paid', async () => /支付成功/.test(await visibleText(page).catch(() => '')), { within: 15_000 });
      assert.doesNotMatch(await visibleText(page), /自动返回|留在本页/);
      assert.equal(await page.getByRole('link', { name: '返回商家' }).getAttribute('href'), at(order));
    }, { javaScriptEnabled: false });
  });
});

describe('in a frame', () => {
  const framed = (page) => page.frames().find((frame) => frame.url().startsWith(service.base));

  test('the shop of embed_origins hears that it is there, how high it is, and what happens, and no secret', async () => {
    const order = await service.order({ return_url: `${shops[1].origin}/done` });
    await visit(async (page) => {
      await page.goto(`${shops[0].origin}/around?${encodeURIComponent(order.checkout_url)}`);
      const heard = (event, state) => until(`${event} ${state}`, () => page.evaluate(([name, is]) =>
        window.heard.find(({ said }) => said.event === name && said.state === is), [event, state]));
      const { from, said } = await heard('ready', 'pending');
      assert.equal(from, service.base);
      const { version, ...rest } = said;
      assert.ok(Number.isInteger(version), `${version}`);
      assert.deepEqual(rest, { shouyin: 1, event: 'ready', order_number: order.order_number, state: 'pending' });
      const { said: { height } } = await heard('height', 'pending');
      assert.ok(height > 600 && height < 3_000, `${height}`);
      await awake(framed(page));
      await pay(order);
      const turned = (await heard('state', 'paid')).said;
      assert.ok(turned.version > version, `${turned.version} after ${version}`);
      const all = await page.evaluate(() => JSON.stringify(window.heard));
      for (const secret of [order.token, order.checkout_url.split('/').pop()]) assert.ok(!all.includes(secret));
      // The shop decides what comes next; the way back leaves its page, too.
      await page.clock.runFor(10_000);
      await framed(page).getByRole('link', { name: '返回商家' }).click();
      await page.waitForURL(`${shops[1].origin}/done**`);
    });
  });

  test('another shop can neither frame it nor hear anything', async () => {
    const order = await service.order();
    await visit(async (page) => {
      const refused = page.waitForEvent('console', (message) => /frame-ancestors/.test(message.text()));
      await page.goto(`${shops[1].origin}/around?${encodeURIComponent(order.checkout_url)}`);
      await refused;
      assert.equal(framed(page), undefined);
      assert.deepEqual(await page.evaluate(() => window.heard), []);
    });
  });

  test('even where its frame is let through, the browser gives it no message', async () => {
    const order = await service.order();
    await visit(async (page) => {
      // Somebody on the way takes the policy out.
      await page.route(order.checkout_url, async (route) => {
        const response = await route.fetch();
        const headers = { ...response.headers() };
        delete headers['content-security-policy'];
        await route.fulfill({ response, headers });
      });
      // And the browser does not say who is around.
      await page.addInitScript(() => Object.defineProperty(window.location, 'ancestorOrigins', { value: undefined }));
      await page.goto(`${shops[1].origin}/around?${encodeURIComponent(order.checkout_url)}`);
      await until('it is framed', () => framed(page));
      await awake(framed(page));
      await pay(order);
      await framed(page).getByRole('heading', { name: '支付成功' }).waitFor();
      assert.deepEqual(await page.evaluate(() => window.heard), []);
    });
  });
});
