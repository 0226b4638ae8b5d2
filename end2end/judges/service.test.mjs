// The service in production form (`shouyin serve`) against two gateways that are not of our making.
// What it signs must verify there; what they sign it must believe; what they did not sign it must refuse.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import wechatpay from 'wechatpay-axios-plugin';
import { call } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';
import { startService } from '../lib/serve.mjs';
import { startStubGateways } from './stub-gateways.mjs';

const { Hash } = wechatpay;
const webhookSecret = `whsec_${randomBytes(32).toString('base64')}`;

for (const signType of ['MD5', 'HMAC-SHA256']) {
  describe(`serve, WeChat with ${signType}`, () => {
    let stub;
    let mall;
    let service;
    before(async () => {
      [stub, mall] = await Promise.all([startStubGateways(), startReceiver()]);
      service = await serve(stub, mall, signType);
    });
    after(async () => {
      assert.equal(await service?.stop(), 0, 'SIGTERM drains and exits 0');
      await Promise.all([stub?.stop(), mall?.stop()]);
    });

    test('nothing of the demo or the emulator is reachable', async () => {
      for (const path of ['/mall', '/mall/orders.json', '/phone', '/ledger', '/faults', '/clock', '/gateway.do', '/pay/unifiedorder']) {
        const { status } = await call('GET', service.base + path);
        assert.ok(status === 404 || status === 405, `${path}: ${status}`);
      }
    });

    test('WeChat: its call verifies there, its paySign verifies, a notice by their code settles', async () => {
      const order = await service.order();
      const { status, json, text } = await service.push('wx', order);
      assert.equal(stub.refused, undefined);
      assert.equal(status, 200, text);
      const { data } = json;
      assert.equal(data.signType, signType);
      const { paySign, appId, nonceStr, package: pack, timeStamp } = data;
      const signed = { appId, nonceStr, package: pack, signType, timeStamp };
      assert.ok(Hash.equals(Hash.sign(signType, signed, stub.accounts.wechat.key), paySign));

      const placed = stub.calls.find(({ fields }) => fields.out_trade_no === order.order_number);
      assert.equal(placed.fields.total_fee, '1234');
      assert.equal(placed.fields.notify_url, `${service.base}/rest/pub/wx/pay_notify`);
      const right = stub.wechatNotice(placed);
      for (const [what, wrong] of Object.entries({
        'a changed byte': right.replace('1234', '1235'),
        'no signature': right.replace(/<sign>.*<\/sign>/, ''),
        'another merchant': stub.wechatNotice(placed, { mch_id: '1900000110' }),
        'another app': stub.wechatNotice(placed, { appid: 'wx0000000000000000' }),
        'an unknown order': stub.wechatNotice(placed, { out_trade_no: 'nobody01' }),
      })) {
        const answer = await service.notice('wx', wrong);
        assert.match(answer.text, /FAIL/, what);
        assert.equal((await service.now(order)).state, 'pending', what);
      }
      const other = await service.notice('wx', stub.wechatNotice(placed, { total_fee: '1', cash_fee: '1' }));
      assert.match(other.text, /SUCCESS/, 'another amount is acknowledged');
      const held = await service.now(order);
      assert.equal(held.state, 'pending', 'another amount never pays');
      assert.equal(held.anomalies[0]?.kind, 'mismatch');

      for (let copy = 0; copy < 2; copy += 1) assert.match((await service.notice('wx', right)).text, /SUCCESS/);
      await service.settled(order, mall);
    });

    test('Alipay: its call verifies there, a notice by their code settles', async () => {
      const order = await service.order({ title: '测试 & <商品> "1+1=2" 100%' });
      const { status, json, text } = await service.push('ali', order);
      assert.equal(stub.refused, undefined);
      assert.equal(status, 200, text);
      const placed = stub.calls.find(({ call: name, fields }) => name === 'alipay.trade.precreate'
        && fields.biz_content.includes(order.order_number.replaceAll('-', '_')));
      assert.equal(json.data.qr_code, `https://qr.alipay.com/${JSON.parse(placed.fields.biz_content).out_trade_no}`);
      const right = stub.alipayNotice(placed);
      for (const [what, wrong] of Object.entries({
        'a changed byte': right.replace('12.34', '12.35'),
        'no signature': right.replace(/&sign=[^&]*/, ''),
        'another seller': stub.alipayNotice(placed, { seller_id: '2088000000000002' }),
        'another app': stub.alipayNotice(placed, { app_id: '2021000000000002' }),
        'an unknown order': stub.alipayNotice(placed, { out_trade_no: 'nobody01' }),
      })) {
        const answer = await service.notice('ali', wrong);
        assert.doesNotMatch(answer.text, /^success/, what);
        assert.equal((await service.now(order)).state, 'pending', what);
      }
      for (let copy = 0; copy < 2; copy += 1) assert.equal((await service.notice('ali', right)).text, 'success');
      await service.settled(order, mall);
    });

    for (const wrong of ['key', 'byte']) {
      test(`an answer with a wrong ${wrong} is not believed`, async () => {
        stub.wrong = wrong;
        try {
          for (const channel of ['wx', 'ali']) {
            const { status, text } = await service.push(channel, await service.order());
            assert.ok(status === 502 || status === 503, `${channel}: ${status} ${text}`);
            assert.doesNotMatch(text, /bizpayurl|qr\.alipay/i);
          }
        } finally {
          stub.wrong = null;
        }
      });
    }
  });
}

/** Starts `shouyin serve` for one merchant at these gateways. */
async function serve(stub, mall, signType) {
  const { wechat, alipay } = stub.accounts;
  const service = await startService({
    files: { 'app.pem': alipay.appPrivateKey, 'alipay.pem': alipay.alipayPublicKey },
    config: ({ base, listen, apiKeyHash }) => `
[server]
listen = "${listen}"
public_base_url = "${base}"
[gateways]
wechat_pay = "${stub.url}"
alipay = "${stub.url}/gateway.do"
[[merchant]]
id = "m"
name = "Judge"
api_key_sha256 = ["${apiKeyHash}"]
webhook_url = "${mall.url}/hook"
webhook_secret = "${webhookSecret}"
webhook_allow = ["127.0.0.1"]
[merchant.wechat]
app_id = "${wechat.appId}"
mch_id = "${wechat.mchId}"
api_v2_key = "${wechat.key}"
sign_type = "${signType}"
[merchant.alipay]
app_id = "${alipay.appId}"
seller_id = "${alipay.sellerId}"
app_private_key_file = "app.pem"
alipay_public_key_file = "alipay.pem"
`,
  });
  return {
    ...service,
    notice: (channel, body) => call('POST', `${service.base}/rest/pub/${channel}/pay_notify`, body,
      { 'content-type': channel === 'wx' ? 'text/xml' : 'application/x-www-form-urlencoded' }),
    /** Paid once, and the mall was told by a webhook that a stock library verifies. */
    settled: async (order, receiver) => {
      const paid = await service.now(order);
      assert.equal(paid.state, 'paid');
      assert.equal(paid.paid_fee, 1234);
      assert.equal(paid.payments.length, 1);
      const about = (request) => request.body.includes(order.order_number) && request.body.includes('order.paid');
      const { body, headers } = await receiver.next('the webhook', about);
      assert.ok(new Webhook(webhookSecret).verify(body.toString(), headers));
    },
  };
}
