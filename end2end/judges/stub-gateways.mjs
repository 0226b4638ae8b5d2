// Both gateways as other people's code would write them: WeChat v2 by wechatpay-axios-plugin, Alipay by alipay-sdk's
// verification and Node's own RSA. Knows nothing of our emulator, so the two cannot share a mistake.
// `wrong` bends its answers: the service must not believe them.
import assert from 'node:assert/strict';
import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto';
import { AlipaySdk } from 'alipay-sdk';
import wechatpay from 'wechatpay-axios-plugin';
import { startReceiver } from '../lib/receiver.mjs';

const { Hash, Transformer } = wechatpay;
const pem = (key, type) => key.export({ type, format: 'pem' });
const bare = (text) => text.replaceAll(/-----[^-]+-----|\s/g, '');

/** Starts both on one port; `accounts` is what a merchant would be given. */
export async function startStubGateways() {
  const app = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ours = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const stub = {
    wrong: null,
    calls: [],
    accounts: {
      wechat: { appId: 'wx0123456789abcdef', mchId: '1900000109', key: randomBytes(16).toString('hex') },
      alipay: { appId: '2021000000000001', sellerId: '2088000000000001', appPrivateKey: pem(app.privateKey, 'pkcs8'),
        alipayPublicKey: pem(ours.publicKey, 'spki') },
    },
  };
  const { wechat, alipay } = stub.accounts;
  const judge = new AlipaySdk({ appId: alipay.appId, privateKey: bare(alipay.appPrivateKey), keyType: 'PKCS8',
    alipayPublicKey: bare(pem(app.publicKey, 'spki')) });
  const signed = (text) => createSign('RSA-SHA256').update(text).sign(ours.privateKey, 'base64');

  const answerWechat = (path, fields) => {
    const signType = fields.sign_type ?? 'MD5';
    assert.ok(Hash.equals(Hash.sign(signType, fields, wechat.key), fields.sign), `the signature of ${path}`);
    const base = { return_code: 'SUCCESS', return_msg: 'OK', result_code: 'SUCCESS', appid: wechat.appId,
      mch_id: wechat.mchId, nonce_str: randomBytes(12).toString('hex') };
    const more = {
      '/pay/unifiedorder': () => ({ trade_type: 'NATIVE', prepay_id: `wx${fields.out_trade_no}`,
        code_url: `weixin://wxpay/bizpayurl?pr=${fields.out_trade_no}` }),
      '/pay/orderquery': () => ({ out_trade_no: fields.out_trade_no, trade_state: 'NOTPAY', trade_state_desc: '订单未支付' }),
      '/pay/closeorder': () => ({}),
    }[path]();
    const answer = { ...base, ...more };
    answer.sign = Hash.sign(signType, answer, stub.wrong === 'key' ? 'f'.repeat(32) : wechat.key);
    if (stub.wrong === 'byte') answer.code_url = `${answer.code_url}0`;
    return Transformer.toXml(answer);
  };

  const answerAlipay = (fields) => {
    assert.ok(judge.checkNotifySignV2({ ...fields }), `the signature of ${fields.method}`);
    const content = JSON.parse(fields.biz_content);
    const answers = {
      'alipay.trade.precreate': { code: '10000', msg: 'Success', out_trade_no: content.out_trade_no,
        qr_code: `https://qr.alipay.com/${content.out_trade_no}` },
      'alipay.trade.query': { code: '40004', msg: 'Business Failed', sub_code: 'ACQ.TRADE_NOT_EXIST', sub_msg: '交易不存在' },
      'alipay.trade.close': { code: '40004', msg: 'Business Failed', sub_code: 'ACQ.TRADE_NOT_EXIST', sub_msg: '交易不存在' },
    };
    let node = JSON.stringify(answers[fields.method]).replaceAll('/', '\\/'); // as the real one writes it
    const sign = signed(stub.wrong === 'key' ? `${node} ` : node);
    if (stub.wrong === 'byte') node = node.replace('qr.alipay', 'qr.alipaY');
    return `{"${fields.method.replaceAll('.', '_')}_response":${node},"sign":"${sign}"}`;
  };

  const receiver = await startReceiver({
    answer: ({ path, body }) => {
      const url = new URL(path, 'http://stub');
      try {
        if (url.pathname.startsWith('/pay/')) {
          const fields = Transformer.toObject(body.toString());
          stub.calls.push({ call: url.pathname, fields });
          return { status: 200, body: answerWechat(url.pathname, fields) };
        }
        const fields = Object.fromEntries([...url.searchParams, ...new URLSearchParams(body.toString())]);
        stub.calls.push({ call: fields.method, fields });
        return { status: 200, body: answerAlipay(fields) };
      } catch (error) {
        stub.refused = error; // the test looks here: what the service signed did not verify
        return { status: 500, body: error.message };
      }
    },
  });
  stub.url = receiver.url;
  stub.stop = receiver.stop;

  /** A payment notice as WeChat would send it. */
  stub.wechatNotice = (call, more = {}) => {
    const { out_trade_no, total_fee, sign_type } = call.fields;
    const notice = { return_code: 'SUCCESS', result_code: 'SUCCESS', appid: wechat.appId, mch_id: wechat.mchId,
      nonce_str: randomBytes(12).toString('hex'), openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o', is_subscribe: 'N', trade_type: 'NATIVE',
      bank_type: 'OTHERS', total_fee, fee_type: 'CNY', cash_fee: total_fee, transaction_id: `42000${Date.now()}`, out_trade_no,
      time_end: beijing().replaceAll(/\D/g, ''), ...more };
    return Transformer.toXml({ ...notice, sign: Hash.sign(sign_type ?? 'MD5', notice, wechat.key) });
  };

  /** A payment notice as Alipay would send it. */
  stub.alipayNotice = (call, more = {}) => {
    const { out_trade_no, total_amount, subject } = JSON.parse(call.fields.biz_content);
    const notice = { app_id: alipay.appId, seller_id: alipay.sellerId, auth_app_id: alipay.appId, charset: 'utf-8', version: '1.0',
      notify_id: randomBytes(17).toString('hex'), notify_type: 'trade_status_sync', notify_time: beijing(), gmt_create: beijing(),
      gmt_payment: beijing(), out_trade_no, subject, total_amount, receipt_amount: total_amount, buyer_id: '2088102116773037',
      trade_no: `${Date.now()}22001`, trade_status: 'TRADE_SUCCESS', ...more };
    const text = Object.keys(notice).sort().map((name) => `${name}=${notice[name]}`).join('&');
    return new URLSearchParams({ ...notice, sign_type: 'RSA2', sign: signed(text) }).toString();
  };
  return stub;
}

function beijing() {
  return new Date(Date.now() + 8 * 3_600_000).toISOString().slice(0, 19).replace('T', ' ');
}
