// The examples that everybody copies: README.md's curl commands, run word for word, and the table of refused input.
// Nothing here knows how the service is built; only what its documents promise.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root, startDemo } from '../lib/demo.mjs';

let demo;
before(async () => { demo = await startDemo({ name: 'examples' }); });
after(() => demo?.stop());

/** The curl commands that stand in a README, by the path they call. */
function curlExamples(file) {
  const blocks = [...readFileSync(join(root, file), 'utf8').matchAll(/```sh\n([^]*?)```/g)].map((block) => block[1]);
  const commands = blocks.join('\n').replaceAll('\\\n', ' ').split('\n').filter((line) => line.startsWith('curl '));
  return commands.filter((line) => line.includes('push_order'));
}

/** Runs one in a shell, against this demo. */
function run(command) {
  const out = execFileSync('sh', ['-c', command.replaceAll('http://127.0.0.1:3000', demo.base)], { encoding: 'utf8' });
  return JSON.parse(out);
}

describe('the three examples of the README', () => {
  const examples = curlExamples('README.md');

  test('there are three, and the Chinese README has the same', () => {
    assert.equal(examples.length, 3);
    assert.deepEqual(curlExamples('README.zh-CN.md'), examples);
  });

  test('WeChat, NATIVE: nine strings and no others', () => {
    const answer = run(examples.find((command) => command.includes('NATIVE')));
    assert.deepEqual(Object.keys(answer).sort(), ['data', 'status_code']);
    assert.equal(answer.status_code, 0);
    const { data } = answer;
    assert.deepEqual(Object.keys(data).sort(), ['appId', 'codeUrl', 'nonceStr', 'package', 'paySign', 'signType',
      'timeStamp', 'title', 'totalFee']);
    for (const [name, value] of Object.entries(data)) assert.equal(typeof value, 'string', name);
    assert.match(data.timeStamp, /^\d{10}$/);
    assert.match(data.codeUrl, /^weixin:\/\/wxpay\/bizpayurl/);
    assert.match(data.package, /^prepay_id=\S+$/);
    assert.match(data.paySign, /^[0-9A-F]{32}$/);
    assert.equal(data.totalFee, '11');
    assert.equal(data.appId, demo.credentials.wechat.app_id);
    assert.equal(data.signType, 'MD5');
    assert.equal(data.title, 'DEMO');
  });

  test('Alipay, QRCODE: a code and nothing else', () => {
    const answer = run(examples.find((command) => command.includes('QRCODE')));
    assert.deepEqual(Object.keys(answer).sort(), ['data', 'status_code']);
    assert.equal(answer.status_code, 0);
    assert.deepEqual(Object.keys(answer.data), ['qr_code']);
    assert.match(answer.data.qr_code, /^https:\/\/qr\.alipay\.com\/\S+$/);
  });

  test('Alipay, APP: an order string and nothing else', () => {
    const answer = run(examples.find((command) => command.includes('"APP"')));
    assert.equal(answer.status_code, 0);
    assert.deepEqual(Object.keys(answer.data), ['order_string']);
    const fields = Object.fromEntries(new URLSearchParams(answer.data.order_string));
    assert.equal(fields.method, 'alipay.trade.app.pay');
    assert.equal(fields.sign_type, 'RSA2');
    assert.match(fields.notify_url, /^https?:\/\/\S+\/rest\/pub\/ali\/pay_notify$/);
    const content = JSON.parse(fields.biz_content);
    assert.match(content.out_trade_no, /^1234/);
    assert.equal(content.subject, 'DEMO');
    assert.equal(typeof content.body, 'string');
    assert.equal(content.total_amount, '11.10');
    assert.ok(content.time_expire ?? content.timeout_express, 'a time limit');
    // Every value percent-encoded: nothing but unreserved characters, percents, and the separators.
    assert.match(answer.data.order_string, /^[\w.~*%+-]+=[\w.~*%+-]*(&[\w.~*%+-]+=[\w.~*%+-]*)*$/);
  });

  test('asked again while the attempt is live: the same code', () => {
    const again = (word) => run(examples.find((command) => command.includes(word))).data;
    assert.equal(again('NATIVE').codeUrl, again('NATIVE').codeUrl);
    assert.equal(again('QRCODE').qr_code, again('QRCODE').qr_code);
  });

  test('the amounts are what the ledger holds', async () => {
    const paid = await demo.pay(run(examples.find((command) => command.includes('"APP"'))).data.order_string);
    assert.equal(paid.total_fee, 1110);
    assert.equal(paid.channel, 'ali');
  });
});

describe('the README', () => {
  test('its configuration is one that the doctor finds nothing wrong with', () => {
    for (const file of ['README.md', 'README.zh-CN.md']) checkConfiguration(file);
  });
});

/** Puts the README's shouyin.toml, with the demo's keys in the places of the real ones, before the doctor. */
function checkConfiguration(file) {
  const toml = readFileSync(join(root, file), 'utf8').match(/```toml\n([^]*?)```/)?.[1];
  assert.ok(toml, `${file} shows a shouyin.toml`);
  // Filled in below, once the configuration is settled.
}
