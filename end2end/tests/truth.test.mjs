// What no wrong clock, dead stream, lost network, crowd or typed address may change: the page shows what the server knows,
// and soon. Reaching each state is in states.mjs; the wallet inside WeChat in wpay.test.mjs.
import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, phone, picture, scan, visibleText } from '../lib/browser.mjs';
import { call, startDemo, until } from '../lib/demo.mjs';
import { awake, pair, push, sizes } from '../lib/states.mjs';

let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'truth' }), launch()]);
});
after(async () => {
  await browser?.close();
  const how = await demo?.stop();
  assert.equal(how?.code, 0, 'a crowd of streams does not keep it from stopping');
});

const shows = (page, text, options) => until(`the page shows ${text}`, async () => text.test(await visibleText(page)), options);

/** A fresh order's page in a browser of its own, for `visit`. `script` runs before the page's own. */
async function open({ script, context, fields, clock }, visit) {
  const shopper = await browser.newContext({ ...desktop, ...context });
  try {
    const page = await shopper.newPage();
    if (clock) await page.clock.install();
    if (script) await page.addInitScript(script.what, script.with);
    const order = await demo.order(fields);
    await page.goto(`${order.checkout_url}?channel=wx`);
    await awake(page);
    await visit(page, order, shopper);
  } finally {
    await shopper.close();
  }
}

/** A page's script that keeps its streams, so that a test can end them. */
const keepStreams = { what: () => {
  const Real = globalThis.EventSource;
  globalThis.EventSource = class extends Real {
    constructor(...args) {
      super(...args);
      globalThis.streams = [...(globalThis.streams ?? []), this];
    }
  };
} };

describe('a device whose clock is a day off', () => {
  for (const [name, off] of [['ahead', 86_400_000], ['behind', -86_400_000]]) {
    test(`${name}: the countdown is the server's`, async () => {
      const what = (by) => {
        const Real = Date;
        globalThis.Date = class extends Real {
          constructor(...args) {
            if (args.length === 0) super(Real.now() + by);
            else super(...args);
          }
          static now() { return Real.now() + by; }
        };
      };
      await open({ script: { what, with: off }, fields: { expires_in: 1800 } }, async (page, order) => {
        const skew = await page.evaluate(() => Date.now()) - Date.now();
        assert.ok(Math.abs(skew - off) < 5_000, `the clock is off by ${skew} ms`);
        const left = async () => {
          const [minutes, seconds] = (await page.locator('.digits').innerText()).split(':').map(Number);
          return minutes * 60 + seconds;
        };
        const server = async () => (await call('GET', `${order.checkout_url}/status`)).json.data.remaining_ms / 1000;
        for (const ahead of [0, 600_000]) {
          await demo.advance(ahead);
          await page.evaluate(() => window.dispatchEvent(new Event('focus'))); // asks anew
          await until('the digits are right', async () => {
            const [before, shown, afterwards] = [await server(), await left(), await server()];
            return shown <= before + 0.5 && shown >= Math.floor(afterwards) - 1;
          });
        }
        const first = await left();
        await until('they go on', async () => (await left()) < first);
      });
    });
  }
});

test('stream dead, tab hidden for two minutes, paid meanwhile, tab shown: paid within 2 s', async () => {
  await open({ script: keepStreams, clock: true }, async (page) => {
    const code = scan(await picture(page, 'truth-hidden'));
    await until('the stream is open', () => page.evaluate(() => globalThis.streams?.[0]?.readyState === 1));
    const turn = (hidden) => page.evaluate((is) => {
      for (const stream of globalThis.streams) stream.close(); // without a word, as when a phone sleeps
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => is });
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => (is ? 'hidden' : 'visible') });
      document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
    }, hidden);
    await turn(true);
    let asked = 0;
    page.on('request', () => { asked += 1; });
    await page.clock.runFor(60_000);
    await demo.pay(code);
    await page.clock.runFor(60_000);
    assert.equal(asked, 0, 'a hidden page asks nobody');
    assert.doesNotMatch(await visibleText(page), /支付成功/);
    const from = performance.now();
    await turn(false);
    await shows(page, /支付成功/, { within: 2_000 });
    console.log(`    paid ${Math.round(performance.now() - from)} ms after the tab was shown`);
  });
});

test('an answer that is older than what is known changes nothing', async () => {
  await open({}, async (page, order) => {
    const { data } = (await call('GET', `${order.checkout_url}/status`)).json;
    let asked = 0;
    await page.route('**/status', (route) => {
      asked += 1;
      return route.fulfill({ json: { status_code: 0, data: { ...data, state: 'closed', version: data.version - 1 } } });
    });
    await page.evaluate(() => window.dispatchEvent(new Event('focus')));
    await until('it was asked', () => asked > 0);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    assert.match(await visibleText(page), /微信扫一扫/);
    assert.doesNotMatch(await visibleText(page), /订单已关闭/);
  });
});

test('the stream speaks although nothing happens, sooner than a proxy of 60 s cuts it', async () => {
  const order = await demo.order();
  const times = [];
  const asked = get(`${order.checkout_url}/events`, (response) => response.on('data', () => times.push(performance.now())));
  asked.on('error', () => {}); // ended by us
  try {
    await until('it spoke twice', () => times.length >= 2, { within: 20_000 });
  } finally {
    asked.destroy();
  }
});

test('network off and on: a banner, what was true stays, and what happened meanwhile is shown', async () => {
  await open({ script: keepStreams }, async (page, order, shopper) => {
    const code = scan(await picture(page, 'truth-offline-before'));
    const from = performance.now();
    await shopper.setOffline(true);
    // Chromium cuts what begins from now on; a network that is gone also ends what was open.
    await page.evaluate(() => globalThis.streams.forEach((stream) => { stream.close(); stream.dispatchEvent(new Event('error')); }));
    await shows(page, /网络已断开/, { within: 4_500 });
    console.log(`    the banner after ${Math.round(performance.now() - from)} ms`);
    assert.equal(scan(await picture(page, 'truth-offline')), code, 'the code can still be scanned');
    assert.match(await page.locator('[role=alert]').textContent(), /您的付款不会丢失/);
    await demo.pay(code);
    await until('paid', async () => (await demo.orderNow(order.order_number)).state === 'paid');
    assert.doesNotMatch(await visibleText(page), /支付成功/);
    const back = performance.now();
    await shopper.setOffline(false);
    await shows(page, /支付成功/, { within: 3_000 });
    console.log(`    paid ${Math.round(performance.now() - back)} ms after the network was back`);
    assert.doesNotMatch(await visibleText(page), /网络已断开/);
  });
});

test('a thousand watchers of an order: the gateway is asked no more than by one', async () => {
  const [one, many] = [await demo.order(), await demo.order()];
  const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
  const streams = [];
  const heard = new Set();
  const watch = (order, name) => new Promise((resolve, reject) => {
    const asked = get(`${order.checkout_url}/events`, { agent }, (response) => {
      assert.equal(response.statusCode, 200);
      response.on('data', (bytes) => {
        if (String(bytes).includes('"paid"')) heard.add(name);
        resolve();
      });
      response.on('error', () => {}); // cut off at the end
    });
    asked.on('error', reject);
    streams.push(asked);
  });
  const poll = (order) => new Promise((resolve, reject) => {
    get(`${order.checkout_url}/status`, { agent }, (response) => {
      response.resume();
      response.on('end', () => (response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`))));
    }).on('error', reject);
  });
  try {
    await watch(one, 'one');
    await Promise.all(Array.from({ length: 1000 }, (_, tab) => watch(many, `tab ${tab}`)));
    assert.equal(streams.length, 1001);
    // Both codes are shown at the same moment; from then on each order is asked about.
    const codes = await Promise.all([one, many].map((order) => push({ demo, order })));
    const queries = async (order) => (await demo.controlCall('GET', '/log')).calls
      .filter((entry) => entry.call === 'wx.orderquery' && entry.out_trade_no?.startsWith(order.order_number)).length;
    const counts = await until('the one was asked about three times', async () => {
      await Promise.all(Array.from({ length: 50 }, () => poll(many)));
      const asked = [await queries(one), await queries(many)];
      return asked[0] >= 3 && asked;
    }, { within: 40_000, every: 500 });
    console.log(`    queries at the gateway: ${counts[0]} for one watcher, ${counts[1]} for a thousand and their questions`);
    assert.ok(counts[1] <= counts[0] + 1, `${counts}`); // one may be under way
    await demo.pay(codes[1]);
    const from = performance.now();
    await until('every tab knows', () => heard.size === 1000, { within: 5_000 });
    console.log(`    all of them knew ${Math.round(performance.now() - from)} ms after the payment was answered`);
  } finally {
    for (const stream of streams) stream.destroy();
    agent.destroy();
  }
});

describe('success typed into an address', () => {
  const words = 'state=paid&result=success&paid=1&status=paid&trade_status=TRADE_SUCCESS&return_code=SUCCESS&result_code=SUCCESS&asked=9';
  for (const javaScriptEnabled of [true, false]) {
    test(`checkout and wpay${javaScriptEnabled ? '' : ', without JavaScript'}`, async () => {
      for (const device of [desktop, phone]) {
        const shopper = await browser.newContext({ ...device, javaScriptEnabled });
        try {
          const order = await demo.order();
          const page = await shopper.newPage();
          for (const address of [`${order.checkout_url}?${words}`, `${order.checkout_url}?channel=ali&${words}#paid`,
            `${order.wpay_url}&${words}`]) {
            await page.goto(address);
            assert.match(await visibleText(page), /待支付|扫一扫|立即支付/);
            assert.doesNotMatch(await page.content(), /支付成功/);
          }
          assert.equal((await demo.orderNow(order.order_number)).state, 'pending');
        } finally {
          await shopper.close();
        }
      }
    });

    test(`tablet${javaScriptEnabled ? '' : ', without JavaScript'}`, async () => {
      const counter = await browser.newContext({ ...sizes.tablet, javaScriptEnabled });
      const at = { demo };
      try {
        const page = await counter.newPage();
        await pair(page, at);
        await at.show();
        for (const more of [words, `view=paid&${words}`, `view=receipt&${words}`, `part=screen&${words}`]) {
          await page.goto(`${demo.base}/pad/demo?${more}`);
          assert.doesNotMatch(await page.content(), /支付成功/, more);
        }
        assert.equal((await demo.orderNow(at.order.order_number)).state, 'pending');
      } finally {
        await counter.close();
        await at.leave?.();
      }
    });
  }
});
