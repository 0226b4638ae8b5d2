// Other people's code judges both halves of ours: what the service signs, and what the emulator answers and sends.
// Judges: PyPI wechatpy, npm wechatpay-axios-plugin, npm alipay-sdk, openssl. Each also has to refuse a changed byte
// and a wrong key: a judge that accepts everything proves nothing.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AlipaySdk } from 'alipay-sdk';
import wechatpay from 'wechatpay-axios-plugin';
import { orderNumber, root, startDemo, until } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';

const { Hash, Transformer, Wechatpay } = wechatpay;
const python = join(root, 'end2end', '.venv-wechatpy', 'bin', 'python');

let demo;
let merchant; // a merchant of somebody else's making, to whom the emulator sends its notices
before(async () => {
  demo = await startDemo({ name: 'judges' });
  merchant = await startReceiver({
    answer: ({ path }) => ({ status: 200, body: path.startsWith('/wx')
      ? '<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>' : 'success' }),
  });
});
after(async () => {
  await merchant?.stop();
  await demo?.stop();
});

/** Runs wechatpy in its own Python. It starts slowly, so it is asked seldom. */
function wechatpy(task, fields = {}) {
  const { app_id, mch_id, api_v2_key } = demo.credentials.wechat;
  const input = JSON.stringify({ base_url: demo.emulator, app_id, mch_id, key: api_v2_key, ...fields });
  return JSON.parse(execFileSync(python, [join(root, 'end2end/judges/wechatpy_judge.py'), task], { input, encoding: 'utf8' }));
}

/** Runs it asynchronously: the emulator must be able to call us meanwhile. */
const push = async (channel, type, order) => {
  const answer = await demo.api('POST', `/rest/${channel}/push_order`,
    { order_type: order.order_type, order_number: order.order_number, type });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.data;
};

// Titles that a signer may trip over.
const titles = ['DEMO', '测试 & <商品> "1+1=2" 100%', "It's 'quoted'; a\\b / ~*()!"];

describe('what the service signs', () => {
  for (const title of titles) {
    test(`paySign of a WeChat push verifies: ${title}`, async () => {
      const data = await push('wx', 'NATIVE', await demo.order({ title }));
      const fields = { appId: data.appId, nonceStr: data.nonceStr, package: data.package, signType: data.signType,
        timeStamp: data.timeStamp };
      const key = demo.credentials.wechat.api_v2_key;
      assert.equal(wechatpy('sign', { fields, sign_type: data.signType }), data.paySign);
      assert.ok(Hash.equals(Hash.sign(data.signType, fields, key), data.paySign));
      // A changed byte and a wrong key give another signature.
      assert.notEqual(Hash.sign(data.signType, { ...fields, package: `${fields.package}0` }, key), data.paySign);
      assert.notEqual(wechatpy('sign', { fields, sign_type: data.signType, key: '0'.repeat(32) }), data.paySign);
    });

    test(`order_string of an Alipay app payment verifies: ${title}`, async () => {
      const { order_string } = await push('ali', 'APP', await demo.order({ title }));
      const fields = Object.fromEntries(new URLSearchParams(order_string));
      const { sign, ...signed } = fields;
      const text = Object.keys(signed).sort().map((name) => `${name}=${signed[name]}`).join('&');
      assert.ok(opensslVerifies(text, sign, demo.credentials.alipay.app_public_key_file));
      assert.ok(!opensslVerifies(`${text} `, sign, demo.credentials.alipay.app_public_key_file), 'a changed byte');
      assert.ok(!opensslVerifies(text, sign, demo.credentials.alipay.alipay_public_key_file), 'a wrong key');
      // alipay-sdk, given the same fields and the same key, writes the same signature (RSA PKCS#1 v1.5 has one only).
      const { method, app_id, biz_content, ...rest } = signed;
      const theirs = new URLSearchParams(alipay().sdkExecute(method, { ...rest, bizContent: JSON.parse(biz_content) }));
      const again = Object.fromEntries(theirs);
      if (again.biz_content === biz_content && again.timestamp === signed.timestamp && again.charset === signed.charset) {
        assert.equal(again.sign, sign);
      }
      assert.ok(alipay({ key: demo.credentials.alipay.app_public_key_file }).checkNotifySignV2(fields));
    });
  }
});

describe('WeChat v2 at the emulator, with wechatpy and wechatpay-axios-plugin as clients', () => {
  const key = () => demo.credentials.wechat.api_v2_key;

  test('wechatpy orders, is paid, and trusts the notice', async () => {
    const number = orderNumber('PY');
    const { answer, signed } = wechatpy('order', { title: titles[1], total_fee: 101, out_trade_no: number,
      notify_url: `${merchant.url}/wx/py` });
    assert.ok(signed, 'the answer verifies');
    assert.match(answer.code_url, /^weixin:\/\/wxpay\/bizpayurl/);
    assert.match(answer.prepay_id, /^wx/);

    const paid = await demo.pay(answer.code_url);
    assert.equal(paid.out_trade_no, number);
    const { body } = await merchant.next('the notice', (request) => request.path === '/wx/py');
    const xml = body.toString();
    const notice = wechatpy('notice', { xml });
    assert.equal(notice.out_trade_no, number);
    assert.equal(notice.total_fee, 101);
    assert.equal(notice.transaction_id, paid.transaction_id);
    assert.equal(notice.result_code, 'SUCCESS');
    assert.equal(wechatpy('notice', { xml: xml.replace(number, `${number.slice(0, -1)}_`) }), null, 'a changed byte');
    assert.equal(wechatpy('notice', { xml, key: 'f'.repeat(32) }), null, 'a wrong key');

    const asked = wechatpy('query', { out_trade_no: number });
    assert.ok(asked.signed);
    assert.equal(asked.answer.trade_state, 'SUCCESS');
    assert.equal(asked.answer.transaction_id, paid.transaction_id);
    await acknowledged(number);
  });

  for (const signType of ['MD5', 'HMAC-SHA256']) {
    test(`wechatpay-axios-plugin orders, queries and closes with ${signType}`, async () => {
      const client = axiosPlugin();
      const { app_id: appid, mch_id } = demo.credentials.wechat;
      const number = orderNumber('AX');
      const common = { appid, mch_id, nonce_str: 'ibuaiVcKdpRxkhJA', sign_type: signType };
      const { data } = await client.v2.pay.unifiedorder.post({ ...common, body: titles[2], out_trade_no: number,
        total_fee: 7, spbill_create_ip: '127.0.0.1', notify_url: `${merchant.url}/wx/ax/${signType}`,
        trade_type: 'NATIVE', product_id: number });
      assert.equal(data.result_code, 'SUCCESS', JSON.stringify(data));
      assert.ok(Hash.equals(Hash.sign(signType, data, key()), data.sign), 'the answer verifies');

      const paid = await demo.pay(data.code_url);
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
      const closing = await client.v2.pay.closeorder.post({ ...common, out_trade_no: number });
      assert.equal(closing.data.err_code, 'ORDERPAID', 'a paid order is not closed');
    });
  }

  test('a call with a wrong key or a changed byte is refused', async () => {
    const { app_id: appid, mch_id } = demo.credentials.wechat;
    const fields = { appid, mch_id, nonce_str: 'ibuaiVcKdpRxkhJA', body: 'x', out_trade_no: orderNumber('NO'), total_fee: '7',
      spbill_create_ip: '127.0.0.1', notify_url: `${merchant.url}/wx/no`, trade_type: 'NATIVE', product_id: '1' };
    const post = async (object) => Transformer.toObject(await (await fetch(`${demo.emulator}/pay/unifiedorder`,
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
    const sdk = alipay();
    const number = orderNumber('AL');
    const bizContent = { out_trade_no: number, subject: titles[1], total_amount: '12.34' };
    const made = await sdk.exec('alipay.trade.precreate', { bizContent, notify_url: `${merchant.url}/ali/pay` },
      { validateSign: true });
    assert.equal(made.code, '10000', JSON.stringify(made));
    assert.match(made.qrCode, /^https:\/\/qr\.alipay\.com\//);

    const paid = await demo.pay(made.qrCode);
    assert.equal(paid.total_fee, 1234);
    const { body, headers } = await merchant.next('the notice', (request) => request.path === '/ali/pay');
    assert.match(headers['content-type'], /^application\/x-www-form-urlencoded/);
    const notice = Object.fromEntries(new URLSearchParams(body.toString()));
    assert.ok(sdk.checkNotifySignV2({ ...notice }), 'the notice verifies');
    assert.equal(notice.trade_status, 'TRADE_SUCCESS');
    assert.equal(notice.total_amount, '12.34');
    assert.equal(notice.trade_no, paid.transaction_id);
    assert.equal(notice.app_id, demo.credentials.alipay.app_id);
    assert.equal(notice.seller_id, demo.credentials.alipay.seller_id);
    assert.ok(!sdk.checkNotifySignV2({ ...notice, total_amount: '12.35' }), 'another amount');
    const stranger = alipay({ key: demo.credentials.alipay.app_public_key_file });
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
    const suspicious = alipay({ key: demo.credentials.alipay.app_public_key_file });
    await assert.rejects(suspicious.exec('alipay.trade.query', { bizContent: { out_trade_no: 'none' } }, { validateSign: true }),
      /验签失败|sign/i);
  });

  test('a call signed with a wrong key is refused', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const stranger = alipay({ privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) });
    const answer = await stranger.exec('alipay.trade.query', { bizContent: { out_trade_no: 'none' } });
    assert.equal(answer.code, '40002', JSON.stringify(answer));
    assert.equal(answer.subCode, 'isv.invalid-signature');
  });
});

/** The ledger says that the notice about this payment was taken: the merchant's plain success was understood. */
async function acknowledged(outTradeNo) {
  await until('the notice is accepted', async () => {
    const { notices } = await demo.ledger();
    return notices.some((notice) => notice.out_trade_no === outTradeNo && notice.attempts.some((attempt) => attempt.accepted));
  });
}

/** alipay-sdk for the demo's app; `key`: the file of the public key it trusts. */
function alipay({ key = demo.credentials.alipay.alipay_public_key_file, privateKey } = {}) {
  const { app_id, gateway_url, app_private_key_file } = demo.credentials.alipay;
  const pem = privateKey ?? demo.file(app_private_key_file);
  return new AlipaySdk({
    appId: app_id,
    keyType: pem.includes('BEGIN RSA PRIVATE KEY') ? 'PKCS1' : 'PKCS8',
    privateKey: bare(pem),
    alipayPublicKey: bare(demo.file(key)),
    gateway: gateway_url,
    endpoint: new URL(gateway_url).origin,
  });
}

function axiosPlugin() {
  const { mch_id, api_v2_key, merchant_serial, merchant_private_key_file, platform_public_key_id, platform_public_key_file } =
    demo.credentials.wechat;
  return new Wechatpay({ mchid: mch_id, serial: merchant_serial, secret: api_v2_key, baseURL: `${demo.emulator}/`,
    privateKey: demo.file(merchant_private_key_file), certs: { [platform_public_key_id]: demo.file(platform_public_key_file) } });
}

function bare(pem) {
  return pem.replaceAll(/-----[^-]+-----|\s/g, '');
}

/** `openssl dgst -verify`, as anybody would do by hand. */
function opensslVerifies(text, signature, publicKeyFile) {
  const dir = mkdtempSync(join(tmpdir(), 'shouyin-judge-'));
  try {
    writeFileSync(join(dir, 'text'), text);
    writeFileSync(join(dir, 'sign'), Buffer.from(signature, 'base64'));
    const { status, stdout, stderr } = spawnSync('openssl', ['dgst', '-sha256', '-verify', publicKeyFile, '-signature',
      join(dir, 'sign'), join(dir, 'text')], { encoding: 'utf8' });
    assert.match(stdout + stderr, /Verified OK|Verification failure/i);
    return status === 0;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
