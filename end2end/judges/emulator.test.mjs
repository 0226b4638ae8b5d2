// The emulator alone, with other people's SDKs as its clients: it must take what they sign, they must believe what it
// answers and sends, and either must refuse a changed byte and a wrong key.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { orderNumber, startEmulator, until } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';
import { alipaySdk, axiosPlugin, Hash, titles, Transformer, wechatpy } from './sdks.mjs';

let emulator;
let merchant; // a merchant of somebody else's making, to whom the emulator sends its notices
before(async () => {
  emulator = await startEmulator({ name: 'emulator' });
  merchant = await startReceiver({
    answer: ({ path }) => ({ status: 200, body: path.startsWith('/wx')
      ? '<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>' : 'success' }),
  });
});
after(async () => {
  await merchant?.stop();
  await emulator?.stop();
});

describe('WeChat v2 at the emulator, with wechatpy and wechatpay-axios-plugin as clients', () => {
  const key = () => emulator.credentials.wechat.api_v2_key;

  test('wechatpy orders, is paid, and trusts the notice', async () => {
    const number = orderNumber('PY');
    const { answer, signed } = wechatpy(emulator.credentials, 'order', { title: titles[1], total_fee: 101, out_trade_no: number,
      notify_url: `${merchant.url}/wx/py` });
    assert.ok(signed, 'the answer verifies');
    assert.match(answer.code_url, /^weixin:\/\/wxpay\/bizpayurl/);
    assert.match(answer.prepay_id, /^wx/);

    const paid = await emulator.pay(answer.code_url);
    assert.equal(paid.out_trade_no, number);
    const { body } = await merchant.next('the notice', (request) => request.path === '/wx/py');
    const xml = body.toString();
    const notice = wechatpy(emulator.credentials, 'notice', { xml });
    assert.equal(notice.out_trade_no, number);
    assert.equal(notice.total_fee, 101);
    assert.equal(notice.transaction_id, paid.transaction_id);
    assert.equal(notice.result_code, 'SUCCESS');
    assert.equal(wechatpy(emulator.credentials, 'notice', { xml: xml.replace(number, `${number.slice(0, -1)}_`) }), null, 'a changed byte');
    assert.equal(wechatpy(emulator.credentials, 'notice', { xml, key: 'f'.repeat(32) }), null, 'a wrong key');

    const asked = wechatpy(emulator.credentials, 'query', { out_trade_no: number });
    assert.ok(asked.signed);
    assert.equal(asked.answer.trade_state, 'SUCCESS');
    assert.equal(asked.answer.transaction_id, paid.transaction_id);
    await acknowledged(number);
  });

  for (const signType of ['MD5', 'HMAC-SHA256']) {
    test(`wechatpay-axios-plugin orders, queries and closes with ${signType}`, async () => {
      const client = axiosPlugin(emulator.credentials);
      const { app_id: appid, mch_id } = emulator.credentials.wechat;
      const number = orderNumber('AX');
      const common = { appid, mch_id, nonce_str: 'ibuaiVcKdpRxkhJA', sign_type: signType };
      const { data } = await client.v2.pay.unifiedorder.post({ ...common, body: titles[2], out_trade_no: number,
        total_fee: 7, spbill_create_ip: '127.0.0.1', notify_url: `${merchant.url}/wx/ax/${signType}`,
        trade_type: 'NATIVE', product_id: number });
      assert.equal(data.result_code, 'SUCCESS', JSON.stringify(data));
      assert.ok(Hash.equals(Hash.sign(signType, data, key()), data.sign), 'the answer verifies');

      const paid = await emulator.pay(data.code_url);
      const { body } = await merchant.next('the notice', (request) => request.path === `/wx/ax/${signType}`);
      const notice = Transformer.toObject(body.toString());
      const kind = notice.sign.length === 64 ? 'HMAC-SHA256' : 'MD5';
      assert.equal(kind, signType);
      assert.ok(Hash.equals(Hash.sign(kind, notice, key()), notice.sign), 'the notice verifies');
      assert.ok(!Hash.equals(Hash.sign(kind, { ...notice, total_fee: '8' }, key()), notice.sign), 'another amount');
      assert.ok(!Hash.equals(Hash.sign(kind, notice, 'f'.repeat(32)), notice.sign), 'a wrong key');
      assert.equal(notice.transaction_id, paid.transaction_id);
      assert.equal(notice.total_fee, '7');

      const asked = await client.v2.pay.orderquery.post({ ...common, out_trade_no: number });
      assert.equal(asked.data.trade_state, 'SUCCESS');
      await assert.rejects(client.v2.pay.closeorder.post({ ...common, out_trade_no: number }), (error) => {
        assert.equal(error.response?.data?.err_code ?? Transformer.toObject(error.response?.data ?? '').err_code, 'ORDERPAID');
        return true;
      }, 'a paid order is not closed');
    });
  }

  test('a call with a wrong key or a changed byte is refused', async () => {
    const { app_id: appid, mch_id } = emulator.credentials.wechat;
    const fields = { appid, mch_id, nonce_str: 'ibuaiVcKdpRxkhJA', body: 'x', out_trade_no: orderNumber('NO'), total_fee: '7',
      spbill_create_ip: '127.0.0.1', notify_url: `${merchant.url}/wx/no`, trade_type: 'NATIVE', product_id: '1' };
    const post = async (object) => Transformer.toObject(await (await fetch(`${emulator.credentials.emulator_url}/pay/unifiedorder`,
      { method: 'POST', body: Transformer.toXml(object) })).text());
    const right = { ...fields, sign: Hash.sign('MD5', fields, key()) };
    for (const wrong of [{ ...right, sign: Hash.sign('MD5', fields, 'f'.repeat(32)) }, { ...right, total_fee: '8' }, fields]) {
      const answer = await post(wrong);
      assert.equal(answer.return_code, 'FAIL', JSON.stringify(answer));
    }
    assert.equal((await post(right)).result_code, 'SUCCESS');
  });
});

describe('Alipay at the emulator, with alipay-sdk as client', () => {
  test('precreate, payment, notice, query, close', async () => {
    const sdk = alipaySdk(emulator.credentials);
    const number = orderNumber('AL');
    const bizContent = { out_trade_no: number, subject: '测试 <商品> "1+1" 100%', total_amount: '12.34' };
    const made = await sdk.exec('alipay.trade.precreate', { bizContent, notify_url: `${merchant.url}/ali/pay` },
      { validateSign: true });
    assert.equal(made.code, '10000', JSON.stringify(made));
    assert.match(made.qrCode, /^https:\/\/qr\.alipay\.com\//);

    const paid = await emulator.pay(made.qrCode);
    assert.equal(paid.total_fee, 1234);
    const { body, headers } = await merchant.next('the notice', (request) => request.path === '/ali/pay');
    assert.match(headers['content-type'], /^application\/x-www-form-urlencoded/);
    const notice = Object.fromEntries(new URLSearchParams(body.toString()));
    assert.ok(sdk.checkNotifySignV2({ ...notice }), 'the notice verifies');
    assert.equal(notice.trade_status, 'TRADE_SUCCESS');
    assert.equal(notice.total_amount, '12.34');
    assert.equal(notice.trade_no, paid.transaction_id);
    assert.equal(notice.app_id, emulator.credentials.alipay.app_id);
    assert.equal(notice.seller_id, emulator.credentials.alipay.seller_id);
    assert.ok(!sdk.checkNotifySignV2({ ...notice, total_amount: '12.35' }), 'another amount');
    const stranger = alipaySdk(emulator.credentials, { key: emulator.credentials.alipay.app_public_key_file });
    assert.ok(!stranger.checkNotifySignV2({ ...notice }), 'a wrong key');

    const asked = await sdk.exec('alipay.trade.query', { bizContent: { out_trade_no: number } }, { validateSign: true });
    assert.equal(asked.tradeStatus, 'TRADE_SUCCESS');
    assert.equal(asked.tradeNo, paid.transaction_id);
    await acknowledged(number);

    // Nobody has scanned this one: to Alipay it does not exist yet, and closing says so.
    const other = orderNumber('AC');
    await sdk.exec('alipay.trade.precreate', { bizContent: { ...bizContent, out_trade_no: other },
      notify_url: `${merchant.url}/ali/close` }, { validateSign: true });
    const closed = await sdk.exec('alipay.trade.close', { bizContent: { out_trade_no: other } }, { validateSign: true });
    assert.equal(closed.subCode, 'ACQ.TRADE_NOT_EXIST', JSON.stringify(closed));
  });

  test('a validating client refuses an answer that another key signed', async () => {
    const suspicious = alipaySdk(emulator.credentials, { key: emulator.credentials.alipay.app_public_key_file });
    await assert.rejects(suspicious.exec('alipay.trade.query', { bizContent: { out_trade_no: 'none' } }, { validateSign: true }),
      /验签失败|sign/i);
  });

  test('a call signed with a wrong key is refused', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const stranger = alipaySdk(emulator.credentials, { privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) });
    const answer = await stranger.exec('alipay.trade.query', { bizContent: { out_trade_no: 'none' } });
    assert.equal(answer.code, '40002', JSON.stringify(answer));
    assert.equal(answer.subCode, 'isv.invalid-signature');
  });
});

/** The ledger says that the notice about this payment was taken: the merchant's plain success was understood. */
async function acknowledged(outTradeNo) {
  await until('the notice is accepted', async () => {
    const { notices } = await emulator.ledger();
    return notices.some((notice) => notice.out_trade_no === outTradeNo && notice.attempts.some((attempt) => attempt.accepted));
  });
}
