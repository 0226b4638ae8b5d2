// WeChat's bridge to its wallet, for a page in any browser whose User-Agent says MicroMessenger. It defines
// WeixinJSBridge with invoke('getBrandWCPayRequest', params, callback) and fires WeixinJSBridgeReady.
// What the wallet makes of the parameters is decided by the emulator: POST /bridge on its control port.
// The page's policy rightly forbids it to ask another origin. So whoever drives the browser carries the messages,
// with Playwright: await page.exposeFunction('wechatClient', async (body) =>
//   (await fetch(`${control}/bridge`, { method: 'POST', body })).json());
// await page.addInitScript(await (await fetch(`${control}/bridge.js?outcome=cancel`)).text());
(() => {
  const { control, outcome, delayMs } = /* settings */ null;
  const ask = (body) => (typeof window.wechatClient === 'function'
    ? window.wechatClient(body)
    : fetch(`${control}/bridge`, { method: 'POST', body }).then((answer) => answer.json()));
  const bridge = {
    async invoke(name, params, callback) {
      if (name !== 'getBrandWCPayRequest') {
        callback?.({ err_msg: `${name}:fail`, err_desc: 'only getBrandWCPayRequest is emulated' });
        return;
      }
      // The client knows where the page is, whatever the page says.
      const page = window.location && window.location.href;
      const told = await ask(JSON.stringify({ params, page, outcome: outcome === 'silent' ? 'ok' : outcome }));
      // Silent: the money moved, and the page is never told (gateways.md 3.4).
      if (outcome !== 'silent') callback?.(told.data ?? { err_msg: 'get_brand_wcpay_request:fail', err_desc: told.message });
    },
    call() {},
    on() {},
  };
  const ready = () => document.dispatchEvent(new Event('WeixinJSBridgeReady'));
  const arrive = () => {
    window.WeixinJSBridge = bridge;
    if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', ready);
    else ready();
  };
  if (delayMs > 0) setTimeout(arrive, delayMs);
  else arrive();
})();
