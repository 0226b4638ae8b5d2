// Makes node.json: what the npm packages alipay-sdk and wechatpay-axios-plugin sign and send.
// In an empty directory: npm i alipay-sdk@4.14.0 wechatpay-axios-plugin@0.9.6 && node …/vectors/generate.mjs
// The keys beside this file are throw-away; the API key is the one of the published example.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname;
const require = createRequire(join(process.cwd(), 'x.js'));
const { AlipaySdk } = require('alipay-sdk');
const { Aes, Hash, Wechatpay, Transformer } = require('wechatpay-axios-plugin');
const version = (name) => require(join(process.cwd(), 'node_modules', name, 'package.json')).version;
const pem = (name) => readFileSync(join(here, 'keys', name), 'utf8');
const bare = (name) => pem(name).replace(/-----[^-]+-----|\s/g, '');

const requests = [];
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    requests.push({ method: request.method, url: request.url, content_type: request.headers['content-type'] ?? '', body });
    response.end('<xml><return_code>FAIL</return_code></xml>');
  });
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const base = `http://127.0.0.1:${server.address().port}`;
const last = (name) => ({ name, ...requests.at(-1) });

// WeChat: signatures.
const key = '192006250b4c09247ec02edce69f6a2d';
const ids = { appid: 'wxd930ea5d5a258f4f', mch_id: '10000100', nonce_str: 'ibuaiVcKdpRxkhJA' };
const cases = {
  'metacharacters': { ...ids, body: '测试 & <商品> = "x" \'y\' ]]>', total_fee: '1' },
  'upper case before lower case': { ...ids, Zeta: '1', alpha: '2', _x: '3', A: '4' },
  'numbers in names': { ...ids, coupon_fee_0: '1', coupon_fee_10: '2', coupon_fee_2: '3', coupon_id_0: 'a' },
  'empty values are dropped, zero is not': { ...ids, attach: '', is_subscribe: '0', device_info: '' },
  'spaces and plus': { ...ids, body: '  a + b  ', attach: 'a=b&c=d' },
};
const wechat = [];
for (const [name, fields] of Object.entries(cases))
  for (const type of ['MD5', 'HMAC-SHA256']) wechat.push({ name, type, fields, sign: Hash.sign(type, fields, key) });

// WeChat: whole requests.
const wechat_requests = [];
const client = new Wechatpay({
  mchid: ids.mch_id, serial: 'own', privateKey: pem('app.pkcs8.pem'), certs: { PUB_KEY_ID_1: pem('app.spki.pem') }, secret: key, baseURL: base,
});
const order = {
  appid: ids.appid, mch_id: ids.mch_id, body: '测试 & <商品>', out_trade_no: 'T2026060100000001', total_fee: 1,
  spbill_create_ip: '127.0.0.1', notify_url: 'https://pay.example.com/rest/pub/wx/pay_notify', trade_type: 'NATIVE', product_id: 'P1',
};
for (const [name, send] of [
  ['unifiedorder MD5', () => client.v2.pay.unifiedorder.post(order)],
  ['unifiedorder HMAC-SHA256', () => client.v2.pay.unifiedorder.post({ ...order, sign_type: 'HMAC-SHA256' })],
  ['orderquery', () => client.v2.pay.orderquery.post({ appid: ids.appid, mch_id: ids.mch_id, out_trade_no: order.out_trade_no })],
  ['closeorder', () => client.v2.pay.closeorder.post({ appid: ids.appid, mch_id: ids.mch_id, out_trade_no: order.out_trade_no })],
]) {
  await send().catch(() => {});
  wechat_requests.push(last(name));
}

// WeChat: refunds.
const wechat_refund_requests = [];
const refund = {
  appid: ids.appid, mch_id: ids.mch_id, out_trade_no: order.out_trade_no, out_refund_no: 'T2026060100000001_r1', total_fee: 11, refund_fee: 10,
  refund_fee_type: 'CNY', refund_desc: '少了 & <一杯>', refund_account: 'REFUND_SOURCE_UNSETTLED_FUNDS', notify_url: 'https://pay.example.com/rest/pub/wx/refund_notify',
};
for (const [name, send] of [
  ['refund MD5', () => client.v2.secapi.pay.refund.post(refund)],
  ['refund HMAC-SHA256', () => client.v2.secapi.pay.refund.post({ ...refund, sign_type: 'HMAC-SHA256' })],
  ['refundquery', () => client.v2.pay.refundquery.post({ appid: ids.appid, mch_id: ids.mch_id, out_refund_no: refund.out_refund_no })],
  ['refundquery of a trade', () => client.v2.pay.refundquery.post({ appid: ids.appid, mch_id: ids.mch_id, out_trade_no: order.out_trade_no, out_refund_no: refund.out_refund_no })],
]) {
  await send().catch(() => {});
  wechat_refund_requests.push(last(name));
}
const gave_back = {
  transaction_id: '4200001234202606011234567890', out_trade_no: order.out_trade_no, refund_id: '50000408942018111907145868882', out_refund_no: refund.out_refund_no,
  total_fee: '11', settlement_total_fee: '11', refund_fee: '10', settlement_refund_fee: '10', refund_status: 'SUCCESS', success_time: '2026-06-02 12:00:00',
  refund_recv_accout: '支付用户零钱', refund_account: 'REFUND_SOURCE_UNSETTLED_FUNDS', refund_request_source: 'API',
};
const root = Transformer.toXml(gave_back).replace(/^<xml>/, '<root>').replace(/<\/xml>$/, '</root>');
if (Buffer.byteLength(root) % 16 === 0) throw new Error('the package leaves the padding out at this length');
const wechat_refund_notices = [{
  name: 'refund', body: Transformer.toXml({ return_code: 'SUCCESS', ...ids, req_info: Aes.AesEcb.encrypt(root, Hash.md5(key)) }),
}];
// Answers, signed by the same package.
const taken = {
  return_code: 'SUCCESS', return_msg: 'OK', ...ids, result_code: 'SUCCESS', transaction_id: gave_back.transaction_id, out_trade_no: refund.out_trade_no,
  out_refund_no: refund.out_refund_no, refund_id: gave_back.refund_id, refund_channel: '', refund_fee: '10', coupon_refund_fee: '0', total_fee: '11', cash_fee: '11',
  coupon_refund_count: '0', cash_refund_fee: '10', future_field: '新',
};
const queried = {
  return_code: 'SUCCESS', return_msg: 'OK', ...ids, result_code: 'SUCCESS', transaction_id: gave_back.transaction_id, out_trade_no: refund.out_trade_no,
  total_fee: '11', cash_fee: '11', refund_count: '2', out_refund_no_0: 'T2026060100000001_r2', refund_id_0: '1', refund_fee_0: '1', refund_status_0: 'PROCESSING',
  out_refund_no_1: refund.out_refund_no, refund_id_1: gave_back.refund_id, refund_channel_1: 'ORIGINAL', refund_fee_1: '10', refund_status_1: 'SUCCESS',
  refund_recv_accout_1: '支付用户零钱', refund_account_1: 'REFUND_SOURCE_UNSETTLED_FUNDS', refund_success_time_1: '2026-06-02 12:00:00',
};
const none = { return_code: 'SUCCESS', return_msg: 'OK', ...ids, result_code: 'FAIL', err_code: 'REFUNDNOTEXIST', err_code_des: 'not exist' };
const broke = { ...none, err_code: 'NOTENOUGH', err_code_des: '基本账户余额不足，请充值后重新发起' };
const wechat_refund_replies = [['taken', taken], ['not enough', broke], ['queried', queried], ['query of nothing', none]].flatMap(([name, fields]) =>
  ['MD5', 'HMAC-SHA256'].map((type) => ({ name, type, body: Transformer.toXml({ ...fields, sign: Hash.sign(type, fields, key) }) })));

// WeChat: a notice as its XML writer writes it.
const paid = {
  return_code: 'SUCCESS', ...ids, result_code: 'SUCCESS', openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o', is_subscribe: 'N',
  trade_type: 'NATIVE', bank_type: 'OTHERS', total_fee: '11', cash_fee: '10', coupon_fee: '1', fee_type: 'CNY',
  transaction_id: '4200001234202606011234567890', out_trade_no: 'T2026060100000001', time_end: '20260601120000', future_field: '新',
};
const wechat_notices = ['MD5', 'HMAC-SHA256'].map((type) => {
  const fields = type === 'MD5' ? paid : { ...paid, sign_type: type };
  return { name: `payment ${type}`, type, body: Transformer.toXml({ ...fields, sign: Hash.sign(type, fields, key) }) };
});

// Alipay.
const sdk = new AlipaySdk({
  appId: '2014072300007148', privateKey: bare('app.pkcs8.pem'), keyType: 'PKCS8', alipayPublicKey: bare('alipay.spki.pem'),
  gateway: `${base}/gateway.do`, timeout: 5000,
});
const bizContent = {
  outTradeNo: 'T20260601_1', totalAmount: '11.10', subject: '测试 + 100% "茶" {杯}', body: 'a+b', timeExpire: '2099-01-01 00:00:00',
};
const notify = 'https://pay.example.com/rest/pub/ali/pay_notify';
const order_strings = [
  { name: 'app.pay', text: sdk.sdkExecute('alipay.trade.app.pay', { bizContent: { ...bizContent, productCode: 'QUICK_MSECURITY_PAY' }, notify_url: notify }) },
  { name: 'app.pay with an empty value', text: sdk.sdkExecute('alipay.trade.app.pay', { bizContent, notify_url: notify, return_url: '' }) },
];
const alipay_requests = [];
for (const [name, method, params] of [
  ['precreate', 'alipay.trade.precreate', { bizContent, notify_url: notify }],
  ['query', 'alipay.trade.query', { bizContent: { out_trade_no: 'T20260601_1' } }],
  ['close', 'alipay.trade.close', { bizContent: { out_trade_no: 'T20260601_1' } }],
]) {
  await sdk.exec(method, params).catch(() => {});
  alipay_requests.push(last(name));
}
const alipay_refund_requests = [];
const given = { outTradeNo: 'T20260601_1', outRequestNo: 'T20260601_1_r1', refundAmount: '1.10', refundReason: '少了 + 100% "一杯"' };
for (const [name, method, params] of [
  ['refund', 'alipay.trade.refund', { bizContent: given }],
  ['refund of a number', 'alipay.trade.refund', { bizContent: { ...given, refundAmount: 1.1 } }],
  ['refund query', 'alipay.trade.fastpay.refund.query', { bizContent: { out_trade_no: 'T20260601_1', out_request_no: 'T20260601_1_r1', query_options: ['gmt_refund_pay'] } }],
]) {
  await sdk.exec(method, params).catch(() => {});
  alipay_refund_requests.push(last(name));
}
server.close();

const made = {
  origin: `npm alipay-sdk ${version('alipay-sdk')}, wechatpay-axios-plugin ${version('wechatpay-axios-plugin')}, node ${process.versions.node}`,
  wechat, wechat_requests, wechat_notices, order_strings, alipay_requests,
  wechat_refund_requests, wechat_refund_notices, wechat_refund_replies, alipay_refund_requests,
};
writeFileSync(join(here, 'node.json'), JSON.stringify(made, null, 1) + '\n');
