// What a shopper is offered on each device and in each app, and that it leads to a paid order: codes to scan,
// links to open here, one code for all wallets, and the guide where an app lets a method not through.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { desktop, launch, phone, picture, scan, visibleText } from '../lib/browser.mjs';
import { startDemo, until } from '../lib/demo.mjs';

const android = phone.userAgent;
const iphone = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1';
const ipad = 'Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1';
const alipay = `${android} AlipayClient/10.5.96.8000 Language/zh-Hans`;
const wechat = `${android} MicroMessenger/8.0.50.2701(0x28003255) NetType/WIFI Language/zh_CN`;
const tablet = { viewport: { width: 1024, height: 768 }, hasTouch: true, locale: 'zh-CN' };

let demo;
let browser;
before(async () => {
  [demo, browser] = await Promise.all([startDemo({ name: 'devices' }), launch()]);
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** A fresh order's page on a device, for `visit(page, order)`. */
async function open(context, query, visit, fields = {}) {
  const order = await demo.order(fields);
  const shopper = await browser.newContext(context);
  try {
    const page = await shopper.newPage();
    await page.goto(order.checkout_url + query);
    await visit(page, order);
  } finally {
    await shopper.close();
  }
}

const paid = (page) => page.getByText('支付成功').filter({ visible: true }).first().waitFor({ timeout: 15_000 });

describe('a link that opens the wallet here', () => {
  const cases = [
    { name: 'Android', agent: android, query: '?channel=wx', scene: 'MWEB', link: /checkmweb\?prepay_id=wx.*&redirect_url=/ },
    { name: 'Android', agent: android, query: '?channel=ali', scene: 'WAP', link: /method=alipay\.trade\.wap\.pay/ },
    { name: 'iPhone', agent: iphone, query: '?channel=wx', scene: 'MWEB', link: /checkmweb\?prepay_id=wx/ },
    { name: 'iPhone', agent: iphone, query: '?channel=ali', scene: 'WAP', link: /method=alipay\.trade\.wap\.pay/ },
    { name: 'inside Alipay', agent: alipay, query: '', scene: 'WAP', link: /method=alipay\.trade\.wap\.pay/ },
    { name: 'iPad, asked for', agent: ipad, query: '?channel=wx&way=here', scene: 'MWEB', link: /checkmweb/, context: tablet },
    { name: 'computer, asked for', query: '?channel=ali&way=here', scene: 'PAGE', link: /method=alipay\.trade\.page\.pay/, context: desktop },
  ];
  for (const { name, agent, query, scene, link, context } of cases) {
    for (const javaScriptEnabled of [true, false]) {
      test(`${name} ${query}${javaScriptEnabled ? '' : ', without JavaScript'}`, async () => {
        const device = { ...(context ?? phone), ...(agent ? { userAgent: agent } : {}), javaScriptEnabled };
        await open(device, query, async (page, order) => {
          const button = page.getByRole('link', { name: '立即支付' });
          await button.waitFor();
          const href = await button.getAttribute('href');
          assert.match(href, link);
          await picture(page, `devices-${name}-${scene}`);
          const box = await button.boundingBox();
          assert.ok(box.height >= 44, `the button is ${box.height} px high`);
          assert.ok(box.y + box.height <= (context ?? phone).viewport.height, 'without scrolling');
          const attempts = (await demo.orderNow(order.order_number)).attempts;
          assert.deepEqual(attempts.map((attempt) => attempt.scene), [scene], 'one attempt, and no code beside it');
          await demo.pay(href);
          await paid(page);
        });
      });
    }
  }

  for (const [name, context, query, steps] of [
    ['WeChat on Android', phone, '?channel=wx', ['确认付款']],
    ['Alipay on an iPhone', { ...phone, userAgent: iphone }, '?channel=ali', ['登录并继续', '确认付款']],
    ['Alipay on a computer', desktop, '?channel=ali&way=here', ['登录并继续', '确认付款']],
    ['Alipay, no JavaScript', { ...phone, javaScriptEnabled: false }, '?channel=ali', ['登录并继续', '确认付款']],
  ]) {
    test(`clicked to the end: ${name}`, async () => {
      await open(context, query, async (page, order) => {
        await page.getByRole('link', { name: '立即支付' }).click();
        await page.waitForURL(`${demo.emulator}/**`);
        for (const step of steps) await page.getByRole('button', { name: step }).click();
        // Whatever stands in the address that leads back: the page asks the server.
        const back = page.getByRole('link', { name: /返回商家|返回商户|完成/ });
        await Promise.race([page.waitForURL(`${demo.base}/pay/**`), back.click().catch(() => {})]);
        await page.waitForURL(`${demo.base}/pay/**`);
        await paid(page);
        assert.equal((await demo.orderNow(order.order_number)).payments.length, 1);
      });
    });
  }

  test('cancelled at the wallet: back here it is asked for, and can be paid again', async () => {
    await open(phone, '?channel=ali', async (page, order) => {
      await page.getByRole('link', { name: '立即支付' }).click();
      await page.getByRole('button', { name: '取消' }).click();
      await page.waitForURL(`${demo.base}/pay/**`);
      assert.match(await visibleText(page), /正在确认支付结果|暂未收到付款|立即支付/);
      assert.doesNotMatch(await visibleText(page), /支付成功/);
      const again = page.getByRole('link', { name: '立即支付' });
      await again.waitFor({ timeout: 20_000 });
      await demo.pay(await again.getAttribute('href'));
      await paid(page);
      assert.equal((await demo.orderNow(order.order_number)).payments.length, 1);
    });
  });

  test('it does not open: the page says what else can be done', async () => {
    await open(phone, '?channel=wx', async (page) => {
      await until('awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
      const help = page.getByText('没有自动打开？');
      assert.equal(await help.isVisible(), false);
      // An app that is not there: the address leads nowhere, and the page stays.
      await page.evaluate(() => document.querySelector('a[data-open]').addEventListener('click', (event) => event.preventDefault()));
      await page.getByRole('link', { name: '立即支付' }).click();
      await help.waitFor({ timeout: 6_000 });
      await picture(page, 'devices-stuck');
    });
  });

  test('the other way: another phone scans', async () => {
    await open(phone, '?channel=ali', async (page) => {
      await page.getByRole('link', { name: '用另一台手机扫码' }).click();
      const code = scan(await picture(page, 'devices-phone-scan'));
      assert.match(code, /^https:\/\/qr\.alipay\.com\//);
      await page.getByRole('link', { name: '在本机打开付款' }).waitFor();
      await demo.pay(code);
      await paid(page);
    });
  });
});

describe('a code to scan', () => {
  for (const [name, context] of [['computer', desktop], ['iPad', { ...tablet, userAgent: ipad }]]) {
    test(name, async () => {
      await open(context, '?channel=wx', async (page) => {
        const code = scan(await picture(page, `devices-${name}-code`));
        assert.match(code, /^weixin:/);
        await demo.pay(code);
        await paid(page);
      });
    });
  }

  test('one for all wallets is the page itself, and opens what scans it', async () => {
    await open(desktop, '', async (page, order) => {
      await page.getByRole('radio', { name: '通用二维码' }).check({ force: true });
      await page.getByText('请使用微信或支付宝扫一扫付款').first().waitFor();
      const code = scan(await picture(page, 'devices-any'));
      assert.equal(code, order.checkout_url);
      const inAlipay = await browser.newContext({ ...phone, userAgent: alipay });
      try {
        const wallet = await inAlipay.newPage();
        await wallet.goto(code);
        await demo.pay(await wallet.getByRole('link', { name: '立即支付' }).getAttribute('href'));
        await Promise.all([paid(page), paid(wallet)]);
      } finally {
        await inAlipay.close();
      }
      // Chosen on the computer and paid on the phone: one order, paid once.
      assert.equal((await demo.orderNow(order.order_number)).payments.length, 1);
    });
  });

  test('choosing a method leaves the code for all, and back', async () => {
    await open(desktop, '?way=any&channel=wx', async (page, order) => {
      await until('awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
      const any = page.getByRole('radio', { name: '通用二维码' });
      assert.equal(await any.isChecked(), true, 'it is what is chosen, and no method');
      for (const [method, code] of [['微信', /^weixin:/], ['支付宝', /^https:\/\/qr\.alipay\.com\//]]) {
        await page.getByRole('radio', { name: new RegExp(method) }).check({ force: true });
        await page.getByText(`请使用${method}扫一扫付款`).first().waitFor();
        assert.match(scan(await picture(page, 'devices-any-left')), code);
        await any.check({ force: true });
        await page.getByText('请使用微信或支付宝扫一扫付款').first().waitFor();
        assert.equal(scan(await picture(page, 'devices-any-back')), order.checkout_url);
        assert.match(page.url(), /way=any/);
      }
      await page.reload();
      assert.equal(await any.isChecked(), true);
    });
  });

  test('chosen and left without JavaScript', async () => {
    await open({ ...desktop, javaScriptEnabled: false }, '?channel=ali', async (page, order) => {
      const any = page.getByRole('radio', { name: '通用二维码' });
      await any.check({ force: true });
      await page.getByRole('button', { name: '使用所选方式' }).click();
      await page.getByText('请使用微信或支付宝扫一扫付款').first().waitFor();
      assert.equal(await any.isChecked(), true);
      assert.equal(scan(await picture(page, 'devices-any-plain')), order.checkout_url);
      await page.getByRole('radio', { name: /微信/ }).check({ force: true });
      await page.getByRole('button', { name: '使用所选方式' }).click();
      await page.getByText('请使用微信扫一扫付款').first().waitFor();
      assert.equal(await any.isChecked(), false);
    });
  });
});

describe('a method that is out of order', () => {
  const radio = (page, name) => page.getByRole('radio', { name });
  const faulty = async (look) => {
    await demo.controlCall('PUT', '/faults', { faults: [{ on: 'wx.unifiedorder', kind: '5xx' }] });
    try {
      await look();
    } finally {
      await demo.controlCall('DELETE', '/faults');
    }
  };
  const isGrey = (page, name) => radio(page, name).evaluate((node) => getComputedStyle(node.closest('label')).borderStyle === 'dashed');

  test('is greyed alone; the others can be chosen, and it can be tried again', async () => {
    await open(desktop, '?channel=ali', async (page) => {
      await until('awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
      await faulty(async () => {
        await radio(page, /微信/).check({ force: true });
        await page.getByRole('heading', { name: '微信支付暂时不可用' }).waitFor();
        assert.equal(await radio(page, /微信支付.*暂时不可用/).isEnabled(), true);
        assert.deepEqual([await isGrey(page, /微信/), await isGrey(page, /支付宝/), await isGrey(page, '通用二维码')], [true, false, false]);
        await radio(page, /支付宝/).check({ force: true });
        await page.getByRole('heading', { name: '请使用支付宝扫一扫付款' }).waitFor();
        assert.equal(await isGrey(page, /微信/), true, 'that is still so');
      });
      await radio(page, /微信/).check({ force: true });
      await page.getByRole('heading', { name: '请使用微信扫一扫付款' }).waitFor();
      assert.equal(await isGrey(page, /微信/), false);
    });
  });

  test('without JavaScript, too', async () => {
    await faulty(() => open({ ...desktop, javaScriptEnabled: false }, '?channel=wx', async (page) => {
      await page.getByRole('heading', { name: '微信支付暂时不可用' }).waitFor();
      assert.deepEqual([await isGrey(page, /微信/), await isGrey(page, /支付宝/)], [true, false]);
      await radio(page, /支付宝/).check({ force: true });
      await page.getByRole('button', { name: '使用所选方式' }).click();
      await page.getByRole('heading', { name: '请使用支付宝扫一扫付款' }).waitFor();
    }));
  });
});

test('nothing opened, inside Alipay: no advice that cannot work there', async () => {
  await open({ ...phone, userAgent: alipay }, '', async (page) => {
    await until('awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
    await page.evaluate(() => document.querySelector('a[data-open]').addEventListener('click', (event) => event.preventDefault()));
    await page.getByRole('link', { name: '立即支付' }).click();
    await page.getByText('没有自动打开').waitFor();
    assert.doesNotMatch(await visibleText(page), /另一台手机|安装|换一种方式/);
  });
});

describe('inside an app that lets the method not through', () => {
  for (const [name, agent, channel, words] of [
    ['WeChat', wechat, 'ali', '微信内无法使用支付宝'],
    ['Alipay', alipay, 'wx', '支付宝内无法使用微信支付'],
  ]) {
    test(`${name}: the guide, and a link to copy that opens the same order`, async () => {
      await open({ ...phone, userAgent: agent }, `?channel=${channel}`, async (page, order) => {
        await page.getByText(words).waitFor();
        await page.getByText('请在浏览器中打开').first().waitFor();
        await until('awake', () => page.evaluate(() => document.documentElement.dataset.awake !== undefined));
        const copy = page.getByRole('button', { name: '复制付款链接' });
        await copy.waitFor();
        const link = await copy.getAttribute('data-copy');
        assert.equal(link, `${order.checkout_url}?channel=${channel}`);
        assert.ok((await visibleText(page)).includes(link), 'to be selected by hand where nothing can copy');
        assert.deepEqual((await demo.orderNow(order.order_number)).attempts, [], 'nothing is placed');
        await picture(page, `devices-guide-${name}`);
      });
    });
  }
});

test('an unknown browser gets everything to choose from', async () => {
  await open({ ...desktop, userAgent: 'curious/1.0' }, '', async (page) => {
    assert.equal(await page.getByRole('radio').count(), 3);
    assert.match(scan(await picture(page, 'devices-unknown')), /^weixin:/);
  });
});
