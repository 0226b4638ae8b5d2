// Makes wechat_v3.json: what the npm package wechatpay-axios-plugin signs, seals and sends by WeChat Pay's API v3.
// In an empty directory: npm i wechatpay-axios-plugin@0.9.6 && node …/vectors/generate_v3.mjs
// The keys beside this file are throw-away: `app` is the merchant's, `alipay` stands for the platform's.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname;
const require = createRequire(join(process.cwd(), 'x.js'));
const { Aes, Formatter, Rsa, Wechatpay } = require('wechatpay-axios-plugin');
const version = (name) => require(join(process.cwd(), 'node_modules', name, 'package.json')).version;
const pem = (name) => readFileSync(join(here, 'keys', name), 'utf8');

const appid = 'wxd930ea5d5a258f4f';
const mchid = '10000100';
const secret = '0123456789abcdef0123456789abcdef';
const serial = '7132D72A03E93CDDF8C03BBD1F37EEDF1234ABCD';
const platform = 'PUB_KEY_ID_0110000100202311150000000001';

const requests = [];
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const { authorization, accept, 'user-agent': user_agent, 'content-type': content_type } = request.headers;
    requests.push({ method: request.method, url: request.url, headers: { authorization, accept, 'user-agent': user_agent,
      ...(content_type ? { 'content-type': content_type } : {}) }, body });
    response.statusCode = 500;
    response.end('{"code":"SYSTEM_ERROR","message":"x"}');
  });
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const client = new Wechatpay({ mchid, serial, privateKey: pem('app.pkcs8.pem'), certs: { [platform]: pem('alipay.spki.pem') },
  secret, baseURL: `http://127.0.0.1:${server.address().port}` });

const order = { appid, mchid, description: '测试 & <商品>', out_trade_no: 'T2026060100000001', amount: { total: 1, currency: 'CNY' },
  notify_url: 'https://pay.example.com/rest/pub/wx/pay_notify' };
const calls = [
  ['native', () => client.v3.pay.transactions.native.post(order)],
  ['jsapi', () => client.v3.pay.transactions.jsapi.post({ ...order, payer: { openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o' } })],
  ['h5', () => client.v3.pay.transactions.h5.post({ ...order, scene_info: { payer_client_ip: '203.0.113.7', h5_info: { type: 'Wap' } } })],
  ['query', () => client.v3.pay.transactions.outTradeNo.$out_trade_no$.get({ params: { mchid }, out_trade_no: order.out_trade_no })],
  ['query by transaction', () => client.v3.pay.transactions.id.$transaction_id$.get({ params: { mchid },
    transaction_id: '4200001234202311151234567890' })],
  ['close', () => client.v3.pay.transactions.outTradeNo.$out_trade_no$.close.post({ mchid }, { out_trade_no: order.out_trade_no })],
  ['refund', () => client.v3.refund.domestic.refunds.post({ out_trade_no: order.out_trade_no, out_refund_no: 'T2026060100000001_r1',
    reason: '少了一杯 <茶>', amount: { refund: 1, total: 1, currency: 'CNY' } })],
  ['refund query', () => client.v3.refund.domestic.refunds.$out_refund_no$.get({ out_refund_no: 'T2026060100000001_r1' })],
];
const asked = [];
for (const [name, call] of calls) {
  await call().catch(() => {});
  asked.push({ name, ...requests.at(-1) });
}
server.close();

// Notices and answers, as the platform would sign them.
const signed = (name, body, timestamp = '1700000000', nonce = 'ibuaiVcKdpRxkhJA') => ({ name, headers: {
  'wechatpay-timestamp': timestamp, 'wechatpay-nonce': nonce, 'wechatpay-serial': platform,
  'wechatpay-signature': Rsa.sign(Formatter.response(timestamp, nonce, body), Rsa.from(pem('alipay.pkcs8.pem'), 'private')),
  'wechatpay-signature-type': 'WECHATPAY2-SHA256-RSA2048' }, body });
const notice = (name, event_type, original_type, content, aad = original_type) => signed(name, JSON.stringify({
  id: 'EV-2018022511223320873', create_time: '2023-11-15T06:13:20+08:00', resource_type: 'encrypt-resource', event_type,
  summary: '成功', resource: { original_type, algorithm: 'AEAD_AES_256_GCM', nonce: 'fdasflkja484', associated_data: aad,
    ciphertext: Aes.AesGcm.encrypt(JSON.stringify(content), secret, 'fdasflkja484', aad) } }));
const trade = { appid, mchid, out_trade_no: 'T20231115_1', transaction_id: '4200001234202311151234567890', trade_type: 'NATIVE',
  trade_state: 'SUCCESS', trade_state_desc: '支付成功', bank_type: 'OTHERS', success_time: '2023-11-15T06:13:19+08:00',
  payer: { openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o' }, amount: { total: 1110, payer_total: 1000, currency: 'CNY', payer_currency: 'CNY' },
  promotion_detail: [{ coupon_id: '1', amount: 110 }] };
const refund = { mchid, out_trade_no: 'T20231115_1', transaction_id: trade.transaction_id, out_refund_no: 'T20231115_1_r1',
  refund_id: '50300604212020051600550537447', refund_status: 'SUCCESS', success_time: '2023-11-15T06:13:19+08:00',
  user_received_account: '支付用户零钱', amount: { total: 1110, refund: 110, payer_total: 1000, payer_refund: 100 } };
const notices = [notice('paid', 'TRANSACTION.SUCCESS', 'transaction', trade), notice('paid, nothing beside the seal',
  'TRANSACTION.SUCCESS', 'transaction', trade, ''), notice('refunded', 'REFUND.SUCCESS', 'refund', refund)];
const answers = [signed('native', '{"code_url":"weixin://wxpay/bizpayurl?pr=p4lpSuKzz"}'), signed('query', JSON.stringify(trade)),
  signed('close', '')];
const seals = [['transaction', 'transaction'], ['', '']].map(([name, aad]) => ({ name, key: secret, nonce: 'fdasflkja484', aad,
  plain: '{"out_trade_no":"T2026060100000001","trade_state":"SUCCESS"}',
  sealed: Aes.AesGcm.encrypt('{"out_trade_no":"T2026060100000001","trade_state":"SUCCESS"}', secret, 'fdasflkja484', aad) }));
const line = Formatter.joinedByLineFeed(appid, '1414561699', '5K8264ILTKCH16CQ2502SI8ZNMTM67VS', 'prepay_id=wx201410272009395522657a690389285100');
const pay_sign = Rsa.sign(line, Rsa.from(pem('app.pkcs8.pem'), 'private'));
writeFileSync(join(here, 'wechat_v3.json'), `${JSON.stringify({ origin: `wechatpay-axios-plugin ${version('wechatpay-axios-plugin')}`,
  requests: asked, notices, answers, seals, pay_sign }, null, 1)}\n`);
