// Other people's SDKs, set up for the credentials of a demo or an emulator.
// Never imports anything of ours but the harness.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AlipaySdk } from 'alipay-sdk';
import wechatpay from 'wechatpay-axios-plugin';
import { root } from '../lib/demo.mjs';

export const { Aes, Hash, Transformer } = wechatpay;

// Titles that a signer may trip over.
export const titles = ['DEMO', '测试 & <商品> "1+1=2" 100%', "It's 'quoted'; a\\b / ~*()!"];

/** Runs wechatpy in its own Python; `fields` beside the account's. It starts slowly, so it is asked seldom. */
export function wechatpy(credentials, task, fields = {}) {
  const { app_id, mch_id, api_v2_key } = credentials.wechat;
  const input = JSON.stringify({ base_url: credentials.emulator_url, app_id, mch_id, key: api_v2_key, ...fields });
  const python = join(root, 'end2end', '.venv-wechatpy', 'bin', 'python');
  return JSON.parse(execFileSync(python, [join(root, 'end2end/judges/wechatpy_judge.py'), task], { input, encoding: 'utf8' }));
}

/** alipay-sdk for this app; `key`: the file of the public key it trusts; `privateKey`: PEM, if not the app's. */
export function alipaySdk(credentials, { key = credentials.alipay.alipay_public_key_file, privateKey } = {}) {
  const { app_id, gateway_url, app_private_key_file } = credentials.alipay;
  const pem = privateKey ?? readFileSync(app_private_key_file, 'utf8');
  return new AlipaySdk({
    appId: app_id,
    keyType: pem.includes('BEGIN RSA PRIVATE KEY') ? 'PKCS1' : 'PKCS8',
    privateKey: bare(pem),
    alipayPublicKey: bare(readFileSync(key, 'utf8')),
    gateway: gateway_url,
    endpoint: new URL(gateway_url).origin,
  });
}

/** wechatpay-axios-plugin for this merchant. */
export function axiosPlugin(credentials) {
  const { mch_id, api_v2_key, merchant_serial, merchant_private_key_file, platform_public_key_id, platform_public_key_file } =
    credentials.wechat;
  return new wechatpay.Wechatpay({ mchid: mch_id, serial: merchant_serial, secret: api_v2_key,
    baseURL: `${credentials.emulator_url}/`, privateKey: readFileSync(merchant_private_key_file, 'utf8'),
    certs: { [platform_public_key_id]: readFileSync(platform_public_key_file, 'utf8') } });
}

/** `openssl dgst -verify`, as anybody would do by hand. */
export function opensslVerifies(text, signature, publicKeyFile) {
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

function bare(pem) {
  return pem.replaceAll(/-----[^-]+-----|\s/g, '');
}
