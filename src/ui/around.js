// What happens around the card when the order's state changes: the icon of the tab, returning to the shop by itself, and
// what a page that frames this one is told. Reads the attributes that the server and the islands keep on <html>; decides
// nothing about money, and says nothing that is secret. Works without islands, too: old syntax on purpose.
(function () {
  var d = document, w = window, html = d.documentElement, at = d.currentScript;
  var icon = d.querySelector('link[rel=icon]'), origins = at.getAttribute('data-origins');
  var framed = w.parent !== w, state, height;
  function on(target, name, what) { target.addEventListener(name, what); }

  // The browser delivers to a page of exactly that origin, and drops it where another one frames this page.
  function tell(event, more) {
    if (!framed || !origins) return;
    var message = { shouyin: 1, event: event, order_number: at.getAttribute('data-order'), state: state,
      version: +html.getAttribute('data-version') };
    for (var name in more) message[name] = more[name];
    var known = w.location.ancestorOrigins;
    origins.split(' ').forEach(function (origin) {
      if (!known || known[0] === origin) w.parent.postMessage(message, origin);
    });
  }
  function measure() {
    var now = Math.ceil(d.querySelector('main').getBoundingClientRect().bottom + w.pageYOffset);
    if (now !== height) tell('height', { height: height = now });
  }

  // Returns only where this tab has seen the order unpaid, so that who comes back to look at the receipt can stay.
  var box = d.querySelector('[data-return]'), key = 'open ' + w.location.pathname, open;
  function wasOpen(is) {
    var was = open;
    try {
      was = was || sessionStorage.getItem(key);
      if (is) sessionStorage.setItem(key, is); else sessionStorage.removeItem(key);
    } catch (e) { /* not allowed to remember */ }
    open = is;
    return was;
  }
  function leave() {
    var left = +box.getAttribute('data-return'), words = box.getAttribute('data-words'), face = box.firstChild;
    var exit = d.querySelector('a.exit').href, said = d.createElement('span');
    function show() { face.textContent = words.replace('{}', left); }
    function stay() { clearInterval(timer); box.hidden = true; said.textContent = ''; }
    function tick() {
      left -= 1;
      show();
      if (left <= 0) { stay(); w.location.assign(exit); }
    }
    // Seconds that nobody sees do not count.
    var timer = setInterval(function () { if (!d.hidden) tick(); }, 1000);
    box.hidden = false;
    show();
    // Once, behind the result.
    said.textContent = ' ' + face.textContent;
    d.querySelector('[role=status]').appendChild(said);
    on(box.querySelector('button'), 'click', function () {
      stay();
      d.getElementById('heading').focus();
    });
    on(d, 'keydown', function (event) { if (event.key === 'Escape') stay(); });
    // Back by the browser's button.
    on(w, 'pageshow', function (event) { if (event.persisted) stay(); });
  }

  function iconOf(is) {
    function of(kind) { return icon.getAttribute('data-' + kind).split(' ').indexOf(is) >= 0; }
    return '/favicon' + (of('paid') ? '-paid' : of('attention') ? '-attention' : '') + '.svg';
  }
  function look() {
    var is = html.getAttribute('data-state'), before = state;
    if (is === before) return;
    state = is;
    if (icon.getAttribute('href') !== iconOf(is)) icon.href = iconOf(is);
    tell(before ? 'state' : 'ready');
    if (!box || framed) return;
    if (/^(pending|scanned|expiring|confirming)$/.test(is)) wasOpen('1');
    else if (wasOpen() && is === 'paid') leave();
  }
  look();
  new MutationObserver(look).observe(html, { attributes: true, attributeFilter: ['data-state'] });
  if (framed && w.ResizeObserver) new ResizeObserver(measure).observe(d.querySelector('main'));
})();
