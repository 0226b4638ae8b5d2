// Takes docs/checkout.png, the picture in the README: one desktop and one phone, as they are right now.
// Run by `make screenshot`; needs a built binary.
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { desktop, launch, phone } from './lib/browser.mjs';
import { root, startDemo } from './lib/demo.mjs';

const target = join(root, 'docs', 'checkout.png');
const demo = await startDemo({ name: 'screenshot' });
const browser = await launch();
try {
  const order = await demo.order({ order_number: '20261123001', title: '手冲咖啡 × 2', total_fee: 5600,
    return_url: 'https://mall.example.com/orders' });
  const shots = [];
  for (const [device, query] of [[{ ...desktop, viewport: { width: 960, height: 840 } }, '?channel=wx'],
    [{ ...phone, deviceScaleFactor: 1, viewport: { width: 390, height: 840 }, colorScheme: 'dark' }, '?channel=ali']]) {
    const shopper = await browser.newContext(device);
    const page = await shopper.newPage();
    await page.goto(order.checkout_url + query);
    await page.waitForFunction(() => document.documentElement.dataset.awake !== undefined);
    shots.push((await page.screenshot()).toString('base64'));
    await shopper.close();
  }
  // Both side by side, by the browser itself.
  const page = await browser.newPage({ viewport: { width: 1398, height: 872 } });
  await page.setContent(`<body style="margin:0;display:flex;align-items:start;gap:16px;padding:16px;background:#d5d8dc">${
    shots.map((shot) => `<img style="border-radius:12px" src="data:image/png;base64,${shot}">`).join('')}</body>`);
  writeFileSync(target, await page.screenshot());
  console.log(`${target}: ${statSync(target).size} bytes (keep it below 200 kB)`);
} finally {
  await browser.close();
  await demo.stop();
}
