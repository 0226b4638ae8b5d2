// Starts `shouyin serve`, the service in production form, with a configuration of the test's own, and always ends it.
// Never reaches into its database. The demo has everything in one process: ./demo.mjs.
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binary, call, freePorts, orderNumber, until } from './demo.mjs';

/** Starts one in a folder of its own. `config({base, listen, apiKeyHash})` -> the text of shouyin.toml, whose paths start
 *  at that folder; `files`: name -> content of what it names; `env`: more variables. */
export async function startService({ config, files = {}, env = {} }) {
  const dir = mkdtempSync(join(tmpdir(), 'shouyin-serve-'));
  const apiKey = randomBytes(16).toString('hex');
  const listen = `127.0.0.1:${(await freePorts(1))[0]}`;
  const base = `http://${listen}`;
  const text = config({ base, listen, apiKeyHash: createHash('sha256').update(apiKey).digest('hex') });
  for (const [name, content] of Object.entries({ ...files, 'shouyin.toml': text })) {
    writeFileSync(join(dir, name), content, { mode: 0o600 });
  }
  const child = spawn(binary, ['serve', '--config', 'shouyin.toml'], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env } });
  const kill = () => child.kill('SIGKILL');
  process.on('exit', kill);
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { log += chunk; });
  const exited = once(child, 'exit');
  await until('it serves', async () => {
    if (child.exitCode !== null) throw new Error(`serve ended with ${child.exitCode}: ${log}`);
    return (await fetch(`${base}/readyz`).catch(() => null))?.ok;
  });
  const api = (method, path, body) => call(method, base + path, body, { authorization: apiKey });
  return {
    base,
    api,
    now: async (order) => (await api('GET', `/rest/orders/Order/${order.order_number}`)).json.data,
    order: async (fields) => (await api('POST', '/rest/orders', { order_type: 'Order', order_number: orderNumber('J'),
      title: 'A test', total_fee: 1234, ...fields })).json.data,
    push: (channel, order) => api('POST', `/rest/${channel}/push_order`, { order_type: 'Order',
      order_number: order.order_number, type: channel === 'wx' ? 'NATIVE' : 'QRCODE' }),
    /** The polite way; answers the exit status. */
    stop: async () => {
      child.kill('SIGTERM');
      const late = setTimeout(kill, 15_000);
      const [code] = await exited;
      clearTimeout(late);
      process.off('exit', kill);
      rmSync(dir, { recursive: true, force: true });
      return code;
    },
  };
}

/** Starts one against an emulator, whose credentials it is given; `merchant`, `wechat`: more lines of these sections. Where
 *  the emulator has TLS, WeChat is called over it, and its authority is trusted. */
export function serveFor(emulator, { merchant = '', wechat: more = '' } = {}) {
  const { wechat, alipay, emulator_url, emulator_tls_url, emulator_ca_file } = emulator.credentials;
  return startService({ env: emulator_ca_file ? { SSL_CERT_FILE: emulator_ca_file } : {}, config: ({ base, listen, apiKeyHash }) => `
[server]
listen = "${listen}"
public_base_url = "${base}"
[gateways]
wechat_pay = "${emulator_tls_url ?? emulator_url}"
alipay = "${alipay.gateway_url}"
[[merchant]]
id = "m"
name = "Mall"
api_key_sha256 = ["${apiKeyHash}"]
${merchant}
[merchant.wechat]
app_id = "${wechat.app_id}"
mch_id = "${wechat.mch_id}"
api_v2_key = "${wechat.api_v2_key}"
${more}
[merchant.alipay]
app_id = "${alipay.app_id}"
seller_id = "${alipay.seller_id}"
app_private_key_file = "${alipay.app_private_key_file}"
alipay_public_key_file = "${alipay.alipay_public_key_file}"
` });
}
