// The examples that everybody copies: README.md's curl commands, run word for word, and the table of refused input.
// Nothing here knows how the service is built; only what its documents promise.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { binary, freePorts, root, startDemo } from '../lib/demo.mjs';
import { startReceiver } from '../lib/receiver.mjs';

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

describe('the shouyin.toml of the README', () => {
  let gateways; // something that answers: this machine may not reach the real ones
  before(async () => { gateways = await startReceiver(); });
  after(() => gateways?.stop());

  for (const file of ['README.md', 'README.zh-CN.md']) {
    test(`${file}: the doctor finds nothing wrong with it`, async () => {
      const { code, said } = await doctor(file, gateways);
      assert.equal(code, 0, said);
    });
  }

  test('a wrong value stops it with the file, the key, the cure and exit status 2', async () => {
    const { code, said } = await doctor('README.md', gateways, { edit: (text) => text.replace('1900000109', '1900 000109') });
    assert.equal(code, 2, said);
    for (const word of ['shouyin.toml', 'mch_id']) assert.ok(said.includes(word), said);
  });

  test('a key under 2048 bits is refused by name', async () => {
    const { code, said } = await doctor('README.md', gateways, { bits: 1024 });
    assert.equal(code, 2, said);
    assert.match(said, /1024|2048/);
  });
});

/** Puts a README's configuration, with keys where it says they are, before the doctor. */
async function doctor(file, gateways, { edit = (text) => text, bits = 2048 } = {}) {
  const toml = readFileSync(join(root, file), 'utf8').match(/```toml\n([^]*?)```/)[1];
  const hash = execFileSync(binary, ['token'], { encoding: 'utf8' }).match(/\b[0-9a-f]{64}\b/)[0];
  const dir = mkdtempSync(join(tmpdir(), 'shouyin-doctor-'));
  try {
    const app = generateKeyPairSync('rsa', { modulusLength: bits });
    const alipay = generateKeyPairSync('rsa', { modulusLength: 2048 });
    mkdirSync(join(dir, 'secrets'));
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=1900000109', '-days', '1',
      '-keyout', 'apiclient_key.pem', '-out', 'apiclient_cert.pem'], { cwd: join(dir, 'secrets'), stdio: 'ignore' });
    const files = {
      'secrets/webhook': `whsec_${randomBytes(32).toString('base64')}\n`,
      'secrets/wechat-api-v2-key': randomBytes(16).toString('hex'),
      'secrets/alipay-app-private-key.pem': app.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      'secrets/alipay-public-key.pem': alipay.publicKey.export({ type: 'spki', format: 'pem' }),
      'shouyin.toml': edit(toml.replace('THE HASH', hash)),
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text, { mode: 0o600 });
    const [port] = await freePorts(1);
    const child = spawn(binary, ['doctor', '--config', 'shouyin.toml'], { cwd: dir, timeout: 20_000, env: { ...process.env,
      SHOUYIN_SERVER_LISTEN: `127.0.0.1:${port}`, SHOUYIN_GATEWAYS_WECHAT_PAY: gateways.url,
      SHOUYIN_GATEWAYS_ALIPAY: `${gateways.url}/gateway.do` } });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { said += chunk; });
    const [code] = await once(child, 'close');
    return { code, said };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
