// Pays inside WeChat: calls its wallet with what the server has signed, and follows the order. What the
// wallet says is never believed: "paid" comes from the server, by loading the page anew. Old syntax on
// purpose: WebViews are old. The page: src/server/pages/wpay/page.rs.
(function () {
  var d = document, w = window, html = d.documentElement, at = d.getElementById('bridge');
  function data(name) { return at.getAttribute('data-' + name); }
  function el(name) { return at.querySelector(name); }
  function on(target, name, what) { target.addEventListener(name, what); }
  // Reloading asks for nothing twice.
  if (w.history.replaceState) w.history.replaceState(null, '', data('clean'));
  if (data('wait')) setTimeout(function () { w.location.reload(); }, +data('wait'));
  if (!data('params')) return;
  var words = JSON.parse(data('words')), params = JSON.parse(data('params')), page = data('page');
  var heading = el('h2'), lines = el('.lines'), button = el('button'), anew = el('a');
  var born = now(), state, view = 0, turns = 0, told = 0, lost, asking, leaving, timer;
  // What each state looks like: class, icon.
  var looks = { busy: ['waiting', ''], confirming: ['waiting', ''], unpaid: ['', 'M24 14v11l7 5'],
    cancelled: ['', 'M16 24h16'] };
  function now() { return w.performance ? performance.now() : +new Date(); }
  function kept(value) {
    try {
      if (value === undefined) return sessionStorage.getItem(page);
      sessionStorage.setItem(page, value);
    } catch (e) { return ''; }
  }
  function say(text, urgent) {
    d.getElementById('calm').textContent = urgent ? '' : text;
    d.getElementById('urgent').textContent = urgent ? text : '';
  }
  function show(next, code) {
    var word = words[next], look = looks[next], failed = !look, held = at.contains(d.activeElement);
    state = next; view += 1;
    html.setAttribute('data-bridge', next);
    at.className = 'result ' + (failed ? 'bad' : look[0]);
    el('path').setAttribute('d', failed ? 'M24 14v12M24 32v1' : look[1]);
    heading.textContent = word[0];
    lines.textContent = word[1] + (failed ? '\n' + words.code.replace('{}', code) : '');
    d.title = word[0] + ' ¥' + data('amount');
    button.hidden = failed || next === 'confirming';
    button.disabled = next === 'busy';
    anew.hidden = !failed;
    if (held && (button.hidden || button.disabled)) heading.focus();
    say(word[0] + '. ' + word[1], failed);
    soon();
  }
  // A state that may last no longer than so many seconds.
  function brief(next, seconds) {
    show(next);
    var mine = view;
    setTimeout(function () { if (view === mine) { confirm(); show('unpaid'); } }, seconds * 1000);
  }
  function pay() {
    if (state === 'busy' && turns || leaving) return;
    if (now() - born > +data('life')) return leave();
    var turn = turns += 1;
    kept('');
    brief('busy', 20);
    w.WeixinJSBridge.invoke('getBrandWCPayRequest', params, function (said) {
      var word = String(said && said.err_msg), why = String(said && said.err_desc || '');
      if (/:ok$/.test(word)) { confirm(); return brief('confirming', 30); }
      // What an older call says is no news.
      if (turn !== turns) return;
      if (/:cancel$/.test(word)) { kept('cancelled'); return show('cancelled'); }
      if (/未注册/.test(why)) return show('unregistered', 'WX-DIRECTORY');
      show('failed', ('WX-FAIL ' + (why || word.replace(/^.*:/, ''))).slice(0, 60));
    });
  }
  function confirm() {
    var form = 'do=confirm&channel=wx', type = 'application/x-www-form-urlencoded', x;
    if (w.fetch) {
      fetch(page, { method: 'POST', body: form, credentials: 'same-origin', redirect: 'manual',
        headers: { 'Content-Type': type } }).then(soon, soon);
    } else {
      x = new XMLHttpRequest(); x.open('POST', page); x.setRequestHeader('Content-Type', type);
      x.onload = soon; x.send(form);
    }
  }
  function leave() { if (!leaving) { leaving = true; w.location.reload(); } }
  function expiring(is) {
    if (is === 'expiring' && html.getAttribute('data-state') !== is) say(words.expiring);
    html.setAttribute('data-state', is);
  }
  function offline(yes) {
    if (yes !== (html.getAttribute('data-offline') === '1')) {
      html.setAttribute('data-offline', yes ? '1' : '');
      say(yes ? words.offline : '', yes);
    }
  }
  // Asks the server now, and then ever more slowly until something happens.
  function soon() { told = 0; ask(); }
  function later() {
    clearTimeout(timer);
    timer = setTimeout(ask, told < 60 ? 1000 : told < 120 ? 3000 : 10000);
  }
  function ask() {
    var x = new XMLHttpRequest();
    clearTimeout(timer);
    if (asking || leaving || d.hidden) return;
    asking = true; told += 1;
    x.open('GET', page + '/status'); x.timeout = 8000;
    x.onloadend = function () {
      var is;
      asking = false;
      try { is = JSON.parse(x.responseText).data.state; } catch (e) { /* no answer */ }
      if (is) lost = 0; else lost = lost || now();
      offline(!is && now() - lost >= 3000);
      if (is && !/^(pending|scanned|expiring)$/.test(is)) leave(); else { if (is) expiring(is); later(); }
    };
    x.send();
  }
  on(button, 'click', pay);
  if (navigator.clipboard) {
    html.setAttribute('data-awake', '');
    on(d.querySelector('[data-copy]'), 'click', function () {
      navigator.clipboard.writeText(this.getAttribute('data-copy')).then(function () {
        html.setAttribute('data-copied', '1'); say(words.copied);
      });
    });
  }
  on(d, 'visibilitychange', soon);
  on(w, 'focus', soon);
  on(w, 'online', soon);
  on(w, 'pageshow', function (event) { if (event.persisted && state === 'busy') show('unpaid'); soon(); });
  on(d.getElementById('paid'), 'submit', function (event) {
    event.preventDefault(); confirm(); brief('confirming', 15);
  });
  // Once for each view, and never after a cancel.
  function begin() { if (!turns) { if (kept()) show('cancelled'); else pay(); } }
  show('busy');
  if (w.WeixinJSBridge) return begin();
  on(d, 'WeixinJSBridgeReady', begin);
  setTimeout(function () { if (!w.WeixinJSBridge) show('absent', 'WX-BRIDGE'); }, 8000);
})();
