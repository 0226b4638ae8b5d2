// A real Chromium with a fresh profile, and what a shopper does with a page: look at it, scan it with a phone.
// Never talks to anything but loopback.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { results } from './demo.mjs';

const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

/** Starts Chromium: CHROMIUM, else what Debian calls it. */
export function launch() {
  const executablePath = process.env.CHROMIUM
    ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path));
  const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath, headless: true, args: [...quiet, ...sandbox] });
}

export const desktop = { viewport: { width: 1280, height: 900 }, locale: 'zh-CN' };
export const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true,
  locale: 'zh-CN',
  userAgent: 'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36' };

/** Takes a picture of what the shopper sees; answers its path. */
export async function picture(page, name) {
  mkdirSync(results, { recursive: true });
  const path = join(results, `${name.replaceAll(/[^\w-]+/g, '-')}.png`);
  await page.screenshot({ path });
  return path;
}

/** Reads the one QR code of a picture with zbar, which has never seen our code. */
export function scan(path) {
  let out;
  try {
    out = execFileSync('zbarimg', ['--quiet', '--raw', '-Sdisable', '-Sqrcode.enable', path],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    throw new Error(`no QR code found in ${path} (zbarimg: exit ${error.status} ${error.stderr})`);
  }
  const codes = out.trim().split('\n');
  if (codes.length !== 1) throw new Error(`${codes.length} QR codes in ${path}: ${codes}`);
  return codes[0];
}

/** The text that is visible on the page, its title included. */
export async function visibleText(page) {
  return `${await page.title()}\n${await page.locator('body').innerText()}`;
}
