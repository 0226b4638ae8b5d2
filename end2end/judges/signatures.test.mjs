// What the service signs for clients, judged by other people's code: paySign for WeChat, order_string for the Alipay app.
// Judges: PyPI wechatpy, npm wechatpay-axios-plugin, npm alipay-sdk, openssl. Each also has to refuse a changed byte
// and a wrong key: a judge that accepts everything proves nothing.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startDemo } from '../lib/demo.mjs';
import { alipaySdk, Hash, opensslVerifies, titles, wechatpy } from './sdks.mjs';

let demo;
before(async () => { demo = await startDemo({ name: 'signatures' }); });
after(() => demo?.stop());

async function push(channel, type, order) {
  const answer = await demo.api('POST', `/rest/${channel}/push_order`,
    { order_type: order.order_type, order_number: order.order_number, type });
  assert.equal(answer.status, 200, answer.text);
  return answer.json.data;
}

describe('what the service signs', () => {
  for (const title of titles) {
    test(`paySign of a WeChat push verifies: ${title}`, async () => {
      const data = await push('wx', 'NATIVE', await demo.order({ title }));
      const fields = { appId: data.appId, nonceStr: data.nonceStr, package: data.package, signType: data.signType,
        timeStamp: data.timeStamp };
      const key = demo.credentials.wechat.api_v2_key;
      assert.equal(wechatpy(demo.credentials, 'sign', { fields, sign_type: data.signType }), data.paySign);
      assert.ok(Hash.equals(Hash.sign(data.signType, fields, key), data.paySign));
      // A changed byte and a wrong key give another signature.
      assert.notEqual(Hash.sign(data.signType, { ...fields, package: `${fields.package}0` }, key), data.paySign);
      assert.notEqual(wechatpy(demo.credentials, 'sign', { fields, sign_type: data.signType, key: '0'.repeat(32) }), data.paySign);
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
      const theirs = new URLSearchParams(alipaySdk(demo.credentials).sdkExecute(method, { ...rest, bizContent: JSON.parse(biz_content) }));
      const again = Object.fromEntries(theirs);
      if (again.biz_content === biz_content && again.timestamp === signed.timestamp && again.charset === signed.charset) {
        assert.equal(again.sign, sign);
      }
      assert.ok(alipaySdk(demo.credentials, { key: demo.credentials.alipay.app_public_key_file }).checkNotifySignV2(fields));
    });
  }
});
