// Photographs every state of lib/states.mjs, light and dark, with and without JavaScript, into results/wall/index.html, for
// people's eyes. Fails when a state cannot be reached, or when something stands out over the edge of the screen.
// Run by `make wall`; needs a built binary. With --docs the README's pictures are taken anew, too; with words, only the
// states whose names contain one of them.
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from './lib/browser.mjs';
import { results, root, startDemo } from './lib/demo.mjs';
import { states, visit } from './lib/states.mjs';

const wall = join(results, 'wall');
// The README's pictures, and which of the wall's each is.
const docs = { 'checkout.png': 'checkout: WeChat code, desktop', 'wechat.png': 'wpay: cancelled, phone', 'tablet.png': 'pad: order, WeChat, tablet' };
const words = process.argv.slice(2).filter((word) => word !== '--docs');
const chosen = states.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
const escaped = (text) => text.replaceAll(/[&<"]/g, (char) => `&#${char.charCodeAt(0)};`);

rmSync(wall, { recursive: true, force: true });
mkdirSync(wall, { recursive: true });
const began = performance.now();
const [demo, browser] = await Promise.all([startDemo({ name: 'wall' }), launch()]);
const rows = [];
const wrong = [];
let taken = 0;
try {
  for (const state of chosen) {
    const pictures = [];
    const from = performance.now();
    await visit(demo, browser, state, async (page, { size, script }) => {
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        const what = `${size}, ${colorScheme}${script ? '' : ', no JavaScript'}`;
        const file = `${state.name}-${what}`.replaceAll(/[^\w]+/g, '-') + '.png';
        const shot = await page.screenshot({ path: join(wall, file), fullPage: true });
        pictures.push({ what, file });
        taken += 1;
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) wrong.push(`${state.name}, ${what}: ${wide} px too wide`);
        const doc = Object.entries(docs).find(([, which]) => which === `${state.name}, ${size}`);
        if (doc && process.argv.includes('--docs') && colorScheme === 'light' && script) writeFileSync(join(root, 'docs', doc[0]), shot);
      }
    }).catch((error) => wrong.push(`${state.name}: ${error.message}`));
    console.log(`${state.name}: ${pictures.length} pictures, ${Math.round(performance.now() - from)} ms`);
    rows.push(`<section id="${escaped(state.name)}"><h2>${escaped(state.name)}</h2><p>${escaped(state.says)}</p><div>${
      pictures.map(({ what, file }) => `<figure><a href="${file}"><img loading="lazy" src="${file}" alt="${escaped(`${state.name}, ${what}`)}"></a>
<figcaption>${what}</figcaption></figure>`).join('')}</div></section>`);
  }
} finally {
  await browser.close();
  await demo.stop();
}
writeFileSync(join(wall, 'index.html'), `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Every state</title><style>
body { margin: 16px; background: #d5d8dc; font: 16px/1.5 system-ui, sans-serif; }
section { margin: 0 0 32px; } h2 { margin: 0; font-size: 20px; } p { margin: 0 0 8px; }
section > div { display: flex; gap: 12px; align-items: flex-start; overflow-x: auto; padding-bottom: 8px; }
figure { margin: 0; flex: none; } img { display: block; height: 420px; border-radius: 8px; } figcaption { font-size: 14px; }
.wrong { color: #b42318; font-weight: 600; }
</style><h1>Every state, ${taken} pictures</h1>
${wrong.map((what) => `<p class="wrong">${escaped(what)}</p>`).join('')}
${rows.join('\n')}</html>`);
const picturesOf = Object.keys(docs).map((name) => join(root, 'docs', name));
if (process.argv.includes('--docs')) for (const path of picturesOf) console.log(`${path}: ${statSync(path).size} bytes (below 500,000)`);
console.log(`${taken} pictures in ${Math.round((performance.now() - began) / 1000)} s: ${join(wall, 'index.html')}`);
if (wrong.length > 0) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
