// The emulator alone, with other people's SDKs as its clients: it must take what they sign, they must believe what it
// answers and sends, and either must refuse a changed byte and a wrong key.
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { orderNumber, startEmulator, until } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';
import { Aes, alipaySdk, axiosPlugin, Hash, titles, Transformer, wechatpy } from './sdks.mjs';

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

  test('wechatpy gives money back, asks for it, and opens the notice', async () => {
    const number = orderNumber('RP');
    const terms = { title: titles[1], total_fee: 101, out_trade_no: number, notify_url: `${merchant.url}/wx/rp` };
    await emulator.pay(wechatpy(emulator.credentials, 'order', terms).answer.code_url);
    const back = { ...terms, refund_fee: 40, out_refund_no: `${number}_r1`, reason: '缺货 <1>', notify_url: `${merchant.url}/wx/rp/back` };
    const { answer, signed } = wechatpy(emulator.credentials, 'refund', back);
    assert.ok(signed, 'the answer verifies');
    assert.equal(answer.refund_fee, '40');
    assert.ok(answer.refund_id);
    const { body } = await merchant.next('the notice', (request) => request.path === '/wx/rp/back');
    const notice = wechatpy(emulator.credentials, 'refund_notice', { xml: body.toString() });
    assert.equal(notice.out_refund_no, back.out_refund_no);
    assert.equal(notice.refund_status, 'SUCCESS');
    assert.equal(notice.refund_fee, 40);
    assert.equal(wechatpy(emulator.credentials, 'refund_notice', { xml: body.toString(), key: 'f'.repeat(32) }), null, 'a wrong key');
    const asked = wechatpy(emulator.credentials, 'refund_query', { out_refund_no: back.out_refund_no });
    assert.ok(asked.signed);
    assert.equal(asked.answer.refund_status_0, 'SUCCESS');
    assert.equal(asked.answer.refund_fee_0, '40');
    const again = wechatpy(emulator.credentials, 'refund', back).answer;
    assert.equal(again.refund_id, answer.refund_id, 'the same number is the same refund');
  });

  test('wechatpay-axios-plugin gives money back and opens the notice', async () => {
    const client = axiosPlugin(emulator.credentials);
    const { app_id: appid, mch_id } = emulator.credentials.wechat;
    const number = orderNumber('RX');
    const common = { appid, mch_id, nonce_str: 'ibuaiVcKdpRxkhJA' };
    const { data } = await client.v2.pay.unifiedorder.post({ ...common, body: 'x', out_trade_no: number, total_fee: 7,
      spbill_create_ip: '127.0.0.1', notify_url: `${merchant.url}/wx/rx`, trade_type: 'NATIVE', product_id: number });
    await emulator.pay(data.code_url);
    const refund = (more) => client.v2.secapi.pay.refund.post({ ...common, out_trade_no: number, out_refund_no: `${number}_r1`,
      total_fee: 7, refund_fee: 7, notify_url: `${merchant.url}/wx/rx/back`, ...more });
    const made = (await refund()).data;
    assert.equal(made.result_code, 'SUCCESS', JSON.stringify(made));
    assert.ok(Hash.equals(Hash.sign('MD5', made, key()), made.sign), 'the answer verifies');
    const { body } = await merchant.next('the notice', (request) => request.path === '/wx/rx/back');
    const sealed = Transformer.toObject(body.toString());
    const opened = (secret) => Transformer.toObject(Aes.AesEcb.decrypt(sealed.req_info, createHash('md5').update(secret).digest('hex')));
    const notice = opened(key());
    assert.equal(notice.out_refund_no, `${number}_r1`);
    assert.equal(notice.refund_status, 'SUCCESS');
    // ECB has no seal of its own: once in 256 times a wrong key gives something that looks padded, but never the notice.
    let strange;
    try { strange = opened('f'.repeat(32)); } catch { /* mostly */ }
    assert.notEqual(strange?.out_refund_no, notice.out_refund_no, 'a wrong key');
    const asked = await client.v2.pay.refundquery.post({ ...common, out_refund_no: `${number}_r1` });
    assert.equal(asked.data.refund_status_0, 'SUCCESS');
    await assert.rejects(refund({ out_refund_no: `${number}_r2`, refund_fee: 1 }), (error) => {
      const answer = error.response?.data?.err_code ? error.response.data : Transformer.toObject(error.response?.data ?? '');
      assert.ok(answer.err_code, JSON.stringify(answer));
      return true;
    }, 'more than was paid');
  });

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

  test('refund, refund query, and the notice that tells of it', async () => {
    const sdk = alipaySdk(emulator.credentials);
    const number = orderNumber('AR');
    const bizContent = { out_trade_no: number, subject: 'x', total_amount: '12.34' };
    const made = await sdk.exec('alipay.trade.precreate', { bizContent, notify_url: `${merchant.url}/ali/refund` }, { validateSign: true });
    await emulator.pay(made.qrCode);
    const refund = (more) => sdk.exec('alipay.trade.refund', { bizContent: { out_trade_no: number, refund_amount: '4.00',
      out_request_no: `${number}_r1`, refund_reason: '缺货', ...more } }, { validateSign: true });
    const back = await refund();
    assert.equal(back.code, '10000', JSON.stringify(back));
    assert.equal(back.refundFee, '4.00');
    const asked = await until('it is done', async () => {
      const answer = await sdk.exec('alipay.trade.fastpay.refund.query',
        { bizContent: { out_trade_no: number, out_request_no: `${number}_r1` } }, { validateSign: true });
      return answer.refundStatus === 'REFUND_SUCCESS' && answer;
    });
    assert.equal(asked.refundAmount, '4.00');
    const { body } = await merchant.next('the notice', (request) => request.path === '/ali/refund'
      && request.body.toString().includes('refund_fee'));
    const notice = Object.fromEntries(new URLSearchParams(body.toString()));
    assert.ok(sdk.checkNotifySignV2({ ...notice }), 'the notice verifies');
    assert.equal(notice.refund_fee, '4.00');
    assert.equal(notice.out_biz_no, `${number}_r1`);
    assert.equal((await refund()).code, '10000', 'asked again');
    const done = (await emulator.ledger()).refunds.filter((known) => known.out_trade_no === number);
    assert.deepEqual(done.map((known) => known.refund_fee), [400], 'the same number is the same refund');
    const more = await refund({ out_request_no: `${number}_r2`, refund_amount: '8.35' });
    assert.notEqual(more.code, '10000', JSON.stringify(more));
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
