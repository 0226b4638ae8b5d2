// Starts `shouyin demo` in a process of its own with its own data and ports, talks to it, and always ends it.
// Never reaches into its database: what a test may know is what its ports say and DATA/credentials.json holds.
// Where to read next: contract.md's calls as used in ../tests/pay.test.mjs.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const results = join(root, 'end2end', 'results');
export const binary = process.env.SHOUYIN ?? join(root, 'target', 'release', 'shouyin');

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** Ports that were free a moment ago. */
export async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

/** Asks until the answer is truthy; the message says what was waited for. */
export async function until(what, ask, { within = 10_000, every = 25 } = {}) {
  const end = Date.now() + within;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`not within ${within} ms: ${what}`);
    await sleep(every);
  }
}

/** Starts a demo and resolves when it serves. Stop it with `stop()`, or use `withDemo`. */
export async function startDemo(options = {}) {
  const demo = new Demo(options);
  await demo.start();
  return demo;
}

/** Starts the two gateways alone; `tls`: over TLS, too. Of a demo's methods those about the service do not work with it. */
export async function startEmulator(options = {}) {
  const emulator = new Demo({ ...options, command: 'emulator' });
  await emulator.start();
  return emulator;
}

class Demo {
  constructor({ name = 'demo', command = 'demo', webhookUrl, padPin, tls = false }) {
    this.name = name;
    this.command = command;
    this.webhookUrl = webhookUrl;
    this.padPin = padPin;
    this.tls = tls;
    this.data = mkdtempSync(join(tmpdir(), 'shouyin-e2e-'));
  }

  /** Starts the process, on the ports of the first start. */
  async start() {
    this.ports ??= await freePorts(4);
    const [listen, emulator, control, tls] = this.ports.map((port) => `127.0.0.1:${port}`);
    const args = this.command === 'demo'
      ? ['demo', '--data', this.data, '--listen', listen, '--emulator-listen', emulator, '--control-listen', control,
        ...(this.webhookUrl ? ['--webhook-url', this.webhookUrl] : []), ...(this.padPin ? ['--pad-pin', this.padPin] : [])]
      : ['emulator', '--data', this.data, '--listen', emulator, '--control-listen', control,
        ...(this.tls ? ['--tls-listen', tls] : [])];
    mkdirSync(results, { recursive: true });
    this.logFile = join(results, `${this.name}.log`);
    const log = createWriteStream(this.logFile, { flags: 'a' });
    const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.data });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    running.add(child);
    this.child = child;
    this.exited = once(child, 'exit').then(([code, signal]) => {
      running.delete(child);
      return { code, signal };
    });
    let over = null;
    this.exited.then((how) => { over = how; });
    this.base = `http://${listen}`;
    await until(`the demo serves (see ${this.logFile})`, async () => {
      if (over) throw new Error(`the demo ended with ${JSON.stringify(over)}, see ${this.logFile}`);
      return existsSync(join(this.data, 'credentials.json'))
        && (await answers(this.command === 'demo' ? `${this.base}/readyz` : `http://${control}/ledger`));
    }, { within: 30_000 });
    this.credentials = JSON.parse(readFileSync(join(this.data, 'credentials.json'), 'utf8'));
    this.control = this.credentials.control_url.replace(/\/$/, '');
    this.emulator = this.credentials.emulator_url.replace(/\/$/, '');
  }

  /** kill -9: no handler of ours runs, nothing is flushed. */
  async kill9() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** The polite way: SIGTERM, which must drain and exit 0; then the data goes. */
  async stop() {
    this.child.kill('SIGTERM');
    const late = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    const how = await this.exited;
    clearTimeout(late);
    rmSync(this.data, { recursive: true, force: true });
    return how;
  }

  /** A file named in credentials.json, as text. */
  file(path) {
    return readFileSync(path, 'utf8');
  }

  /** The mall's API. `key`: the Authorization header, the merchant's API key unless told. */
  async api(method, path, body, { key = this.credentials.merchant.api_key, headers = {} } = {}) {
    return call(method, this.base + path, body, { ...(key ? { authorization: key } : {}), ...headers });
  }

  /** Makes an order; answers its `data`. */
  async order(fields = {}) {
    const number = fields.order_number ?? orderNumber();
    const answer = await this.api('POST', '/rest/orders', {
      order_type: 'Order', order_number: number, title: 'A test', total_fee: 1234, ...fields });
    if (answer.status !== 201) throw new Error(`POST /rest/orders: ${answer.status} ${answer.text}`);
    return answer.json.data;
  }

  /** The mall's view of an order. */
  async orderNow(number, type = 'Order') {
    const answer = await this.api('GET', `/rest/orders/${type}/${number}`);
    if (answer.status !== 200) throw new Error(`GET order ${number}: ${answer.status} ${answer.text}`);
    return answer.json.data;
  }

  /** A shopper's phone pays what a code says, at the emulator. */
  async pay(code, copies) {
    return this.controlCall('POST', '/pay', copies ? { code, copies } : { code });
  }

  /** The emulator's ledger: the truth about money. */
  async ledger() {
    return this.controlCall('GET', '/ledger');
  }

  /** Moves schedules and expiries ahead. */
  async advance(ms) {
    return this.controlCall('POST', '/clock', { advance_ms: ms });
  }

  async controlCall(method, path, body) {
    const answer = await call(method, this.control + path, body);
    if (answer.status !== 200 || answer.json?.status_code !== 0) {
      throw new Error(`${method} ${path} at the emulator: ${answer.status} ${answer.text}`);
    }
    return answer.json.data;
  }
}

/** One HTTP call: `{status, headers, text, json}`; a string body goes out as it is, anything else as JSON. */
export async function call(method, url, body, headers = {}) {
  const response = await fetch(url, {
    method,
    redirect: 'manual',
    headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
    body: body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: parsed(text) };
}

/** An order number that no other test uses. */
export function orderNumber(prefix = 'T') {
  counter += 1;
  return `${prefix}${process.pid}${Date.now().toString(36)}${counter}`.slice(0, 24);
}
let counter = 0;

async function answers(url) {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false; // not listening yet
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not JSON: a page, or an empty body
  }
}
