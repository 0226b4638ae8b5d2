// What a shopper's browser does at the emulator alone, with links and parameters that other people's SDKs made, and
// their checks of what comes back. bridge.js runs in a bare context, as a page's own scripts would meet it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createContext, runInContext } from 'node:vm';
import { orderNumber, startEmulator } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';
import { alipaySdk, titles, wechatpy } from './sdks.mjs';

const wechat = { 'user-agent': 'Mozilla/5.0 (iPhone) MicroMessenger/8.0.50 NetType/WIFI' };
let emulator;
let merchant;
before(async () => {
  emulator = await startEmulator({ name: 'browser-side' });
  merchant = await startReceiver({ answer: () => ({ status: 200, body: 'success' }) });
});
after(async () => {
  await merchant?.stop();
  await emulator?.stop();
});

const browse = (url, options = {}) => fetch(new URL(url, emulator.emulator), { redirect: 'manual', ...options });
const press = (action, link) => browse(`/cashier/${action}`,
  { method: 'POST', body: new URLSearchParams({ link: link.slice(link.indexOf('?') + 1) }) });
const invoke = async (params, outcome) => (await (await fetch(`${emulator.control}/bridge`,
  { method: 'POST', body: JSON.stringify({ params, outcome }) })).json()).data;

/** The openid of whoever holds the phone, by wechatpy's link. */
async function openid() {
  const { app_id, app_secret } = emulator.credentials.wechat;
  const redirect_uri = 'http://127.0.0.1:3000/app/payment/wpay/1?order_type=Order';
  const path = wechatpy(emulator.credentials, 'oauth_path', { redirect_uri, state: 'Abc123' });
  assert.equal((await browse(path)).status, 200, 'outside WeChat there is only a page');
  const went = await browse(path, { headers: wechat });
  assert.equal(went.status, 302, await went.text());
  const back = new URL(went.headers.get('location'));
  assert.equal(back.searchParams.get('state'), 'Abc123');
  const query = new URLSearchParams({ appid: app_id, secret: app_secret, code: back.searchParams.get('code'),
    grant_type: 'authorization_code' });
  const told = await (await browse(`/sns/oauth2/access_token?${query}`)).json();
  assert.equal((await (await browse(`/sns/oauth2/access_token?${query}`)).json()).errcode, 40163);
  return told.openid;
}

/** wechatpy's order for the one who holds the phone. */
async function jsapi(number) {
  const { params, signed } = wechatpy(emulator.credentials, 'jsapi', { title: titles[1], total_fee: 101, out_trade_no: number,
    notify_url: `${merchant.url}/wx/jsapi`, openid: await openid() });
  assert.ok(signed, 'the answer verifies');
  return { ...params, timeStamp: String(params.timeStamp) };
}

const state = async (number) => (await emulator.ledger()).trades.find((trade) => trade.out_trade_no === number)?.state;

test("wechatpy's link and parameters lead through WeChat's client to a paid trade", async () => {
  const number = orderNumber('JS');
  const params = await jsapi(number);
  assert.match((await invoke({ ...params, nonceStr: 'x' }, 'ok')).err_desc, /签名/, 'a changed value');
  assert.equal(await state(number), 'NOTPAY');
  assert.deepEqual(await invoke(params, 'ok'), { err_msg: 'get_brand_wcpay_request:ok' });
  assert.equal(await state(number), 'SUCCESS');
});

test('the bridge script carries a page to the wallet and back', async () => {
  for (const [outcome, said, stands] of [['cancel', 'cancel', 'NOTPAY'], ['fail', 'fail', 'NOTPAY'], ['ok', 'ok', 'SUCCESS'],
    ['silent', null, 'SUCCESS']]) {
    const number = orderNumber('BR');
    const params = await jsapi(number);
    const script = await (await fetch(`${emulator.control}/bridge.js?outcome=${outcome}&delay_ms=20`)).text();
    const heard = [];
    const page = Object.assign(new EventTarget(), { readyState: 'complete' });
    const window = { wechatClient: async (body) => (await fetch(`${emulator.control}/bridge`, { method: 'POST', body })).json() };
    const ready = new Promise((done) => { page.addEventListener('WeixinJSBridgeReady', done); });
    runInContext(script, createContext({ window, document: page, Event, setTimeout }));
    assert.equal(window.WeixinJSBridge, undefined, 'it comes late');
    await ready;
    await window.WeixinJSBridge.invoke('getBrandWCPayRequest', params, (told) => heard.push(told.err_msg));
    assert.deepEqual(heard, said === null ? [] : [`get_brand_wcpay_request:${said}`], outcome);
    assert.equal(await state(number), stands, outcome);
  }
});

for (const [method, product, scene] of [['alipay.trade.wap.pay', 'QUICK_WAP_WAY', 'wap'],
  ['alipay.trade.page.pay', 'FAST_INSTANT_TRADE_PAY', 'page']]) {
  for (const how of ['GET', 'POST']) {
    test(`alipay-sdk's ${how} to ${scene}.pay is a cashier, and it trusts the way back`, async () => {
      const sdk = alipaySdk(emulator.credentials);
      const number = orderNumber('CA');
      const made = sdk.pageExecute(method, how, { notify_url: `${merchant.url}/ali/page`, return_url: `${merchant.url}/back`,
        bizContent: { out_trade_no: number, subject: '测试 <商品> 100%', total_amount: '12.34', product_code: product,
          quit_url: `${merchant.url}/quit` } });
      let link = made;
      if (how === 'POST') {
        const unescaped = (text) => text.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
        const fields = [...made.matchAll(/<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"/g)];
        const posted = await browse(unescaped(made.match(/action="([^"]+)"/)[1]), { method: 'POST',
          body: new URLSearchParams(fields.map(([, name, value]) => [name, unescaped(value)])) });
        link = posted.headers.get('location') ?? assert.fail(`${posted.status} ${await posted.text()}`);
      }
      const page = await (await browse(link)).text();
      assert.ok(page.includes('12.34') && page.includes('测试 &lt;商品&gt; 100%'), page);
      assert.equal(await state(number), undefined, 'nobody entered');
      assert.equal((await press('enter', link)).status, 302);
      assert.equal(await state(number), 'NOTPAY');
      assert.equal((await press('cancel', link)).headers.get('location'), `${merchant.url}/quit`);
      const back = new URL((await press('pay', link)).headers.get('location'));
      assert.equal(await state(number), 'SUCCESS');
      const told = Object.fromEntries(back.searchParams);
      assert.ok(sdk.checkNotifySignV2({ ...told }), 'the way back verifies');
      assert.ok(!sdk.checkNotifySignV2({ ...told, total_amount: '12.35' }), 'another amount');
      assert.equal(told.out_trade_no, number);
      assert.equal(told.method, `${method}.return`);
      const { body } = await merchant.next('the notice', (request) => request.path === '/ali/page'
        && request.body.toString().includes(number));
      assert.ok(sdk.checkNotifySignV2(Object.fromEntries(new URLSearchParams(body.toString()))), 'the notice verifies');
      const refused = await (await browse(link.replace('12.34', '12.35'))).text();
      assert.match(refused, /invalid-signature/, 'a changed byte');
    });
  }
}
