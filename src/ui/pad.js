// The tablet in the shop: waits for the server to say that there is something else to show, fetches the screen
// that the server draws, and swaps it. A stream first, questions where it is blocked. Counts on the monotonic
// clock; never decides what is shown. For old tablets: no syntax younger than 2015.
(function () {
  "use strict";
  const root = document.documentElement;
  const band = document.querySelector(".band");
  const sound = document.querySelector(".sound");
  const [calm, urgent] = document.querySelectorAll("body > .spoken");
  const now = () => performance.now();

  const TICK = 250; // ms
  const SILENCE = 12000; // the stream speaks every 10 s
  const ASK_EACH = 1500;
  const REOPEN = 15000;
  const PATIENCE = 5000; // for one answer
  const OFFLINE_AFTER = 3000;
  const STAFF_FOR = 60000;
  const PRESS = 800;

  let main = document.getElementById("screen");
  let view = new URLSearchParams(location.search).get("view") || "";
  let again = Infinity; // when the screen is to be fetched although nothing was said
  let end = 0; // of the order
  let stream = null;
  let heard = -Infinity; // from the stream
  let reopen = 0;
  let askAt = 0;
  let failedAt = null; // since when nothing answers
  let busy = false; // the screen is being fetched
  let turn = 0; // which fetch counts
  let wanted = null; // what was told of meanwhile
  let staffUntil = Infinity;

  const paired = () => main.dataset.key !== "unpaired";

  // --- the screen ---

  function address(part) {
    const query = new URLSearchParams();
    const lang = new URLSearchParams(location.search).get("lang");
    if (lang) query.set("lang", lang);
    if (view) query.set("view", view);
    if (part) query.set("part", part);
    return location.pathname + "?" + query;
  }

  function swap(html) {
    const next = new DOMParser().parseFromString(html, "text/html").getElementById("screen");
    if (!next) throw new Error("no screen in the answer");
    const before = main;
    const had = before.contains(document.activeElement) ? document.activeElement : null;
    const same = had && had.name ? '[name="' + had.name + '"][value="' + had.value + '"]' : null;
    main = document.adoptNode(next);
    const typed = had && had.id && main.querySelector("input#" + had.id);
    // Nobody is interrupted while typing.
    if (typed && !main.querySelector("#wrong")) typed.value = had.value;
    before.replaceWith(main);
    // Focus is moved only if what had it is gone.
    const focus = had && (typed || (same && main.querySelector(same)) || main.querySelector("#staff") || main.querySelector("h1"));
    if (focus) focus.focus();
    if (main.dataset.state === "paid" && before.dataset.state !== "paid") chime();
    arrived();
  }

  // Reads what the server wrote on the screen.
  function arrived() {
    root.lang = main.lang;
    document.title = main.dataset.title;
    say(calm, main.dataset.calm);
    say(urgent, main.dataset.urgent);
    again = main.dataset.again ? now() + Number(main.dataset.again) : Infinity;
    const digits = main.querySelector(".digits");
    end = digits ? now() + Number(digits.dataset.left) : 0;
    staffUntil = view === "staff" ? now() + STAFF_FOR : Infinity;
    count();
  }

  // What did not change is not said again.
  function say(region, text) {
    if (region.textContent !== (text || "")) region.textContent = text || "";
  }

  function count() {
    const digits = main.querySelector(".digits");
    if (!digits) return;
    const seconds = Math.max(0, Math.floor((end - now()) / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    const face = two(Math.floor(seconds / 60) % 60) + ":" + two(seconds % 60);
    digits.textContent = hours ? hours + ":" + face : face;
    digits.className = seconds < 60 ? "digits last" : "digits";
  }

  // What the server answers, as text. A question that nobody answers is no answer.
  function answer(url, options) {
    const asked = fetch(url, Object.assign({ credentials: "same-origin", cache: "no-store" }, options))
      .then((response) => {
        // A PIN that is wrong, or was typed too often: the screen says so.
        if (!response.ok && response.status !== 403 && response.status !== 429) {
          throw new Error("answered " + response.status);
        }
        return response.text();
      });
    const late = new Promise((_, refuse) => setTimeout(refuse, PATIENCE));
    return Promise.race([asked, late]);
  }

  // Sends a request and swaps in the screen that comes back; a newer one makes an older one void.
  function load(url, options) {
    const mine = (turn += 1);
    const from = now();
    busy = true;
    wanted = null;
    return answer(url, options).then((html) => {
      answered();
      if (mine !== turn) return;
      busy = false;
      swap(html);
      if (wanted && wanted !== main.dataset.key) refetch();
    }).catch(() => {
      if (mine !== turn) return;
      busy = false;
      again = now() + ASK_EACH;
      failed(from);
    });
  }

  function refetch() {
    load(address("screen"));
  }

  // --- the server's word ---

  function told(live) {
    answered();
    if (live.remaining_ms !== null) end = now() + live.remaining_ms;
    if (busy) wanted = live.key;
    else if (live.key !== main.dataset.key) refetch();
  }

  function listen() {
    if (stream) stream.close();
    stream = null;
    reopen = now() + REOPEN;
    if (!window.EventSource) return;
    stream = new EventSource(location.pathname + "/events");
    stream.onmessage = (event) => {
      heard = now();
      told(JSON.parse(event.data));
    };
    stream.onerror = () => {
      heard = -Infinity;
      askAt = 0;
    };
  }

  function ask() {
    const from = now();
    askAt = from + PATIENCE + TICK;
    answer(location.pathname + "/status").then((text) => {
      askAt = now() + ASK_EACH;
      told(JSON.parse(text).data);
    }).catch(() => {
      askAt = now() + ASK_EACH;
      failed(from);
    });
  }

  function answered() {
    failedAt = null;
    // A tablet that knows of no network at all is right.
    if (navigator.onLine !== false) offline(false);
  }

  // Since when, of the first of several.
  function failed(since) {
    if (failedAt === null) failedAt = since;
  }

  // Said in words as wide as the screen, for who stands three metres away.
  function offline(is) {
    say(band, is ? band.dataset.text : "");
  }

  setInterval(() => {
    const at = now();
    count();
    if (failedAt !== null && at - failedAt > OFFLINE_AFTER) offline(true);
    if (!paired()) {
      if (stream) stream.close();
      stream = null;
      return;
    }
    if (at > staffUntil) show("");
    if (at > again && !busy) {
      again = Infinity;
      refetch();
    }
    const silent = at - heard > SILENCE;
    if (silent && at > askAt) ask();
    if (silent && at > reopen) listen();
  }, TICK);

  window.addEventListener("offline", () => {
    failed(now());
    offline(true);
  });
  for (const woken of ["online", "focus", "pageshow"]) window.addEventListener(woken, () => paired() && ask());

  // --- what people do ---

  // Another view, because somebody asked for it: focus and eye go there.
  function show(name) {
    view = name;
    load(address("screen")).then(() => {
      const strip = main.querySelector(".strip");
      if (!strip || !name) return;
      strip.scrollIntoView(false);
      (main.querySelector("#pin") || main.querySelector("#staff")).focus({ preventScroll: true });
    });
  }

  document.addEventListener("click", (event) => {
    unmute();
    const link = event.target.closest("a");
    if (!link) return;
    if ("print" in link.dataset) {
      event.preventDefault();
      window.print();
    } else if ("view" in link.dataset) {
      event.preventDefault();
      show(link.dataset.view);
    }
  });

  // Forms go out as they are; only the answer is swapped in instead of loaded.
  let pressed = null;
  document.addEventListener("click", (event) => {
    pressed = event.target.closest("button");
  }, true);
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!("swap" in form.dataset)) return;
    event.preventDefault();
    const body = new URLSearchParams();
    for (const field of form.querySelectorAll("input")) body.append(field.name, field.value);
    if (pressed && pressed.form === form && pressed.name) body.append(pressed.name, pressed.value);
    view = form.dataset.swap;
    load(form.getAttribute("action"), { method: "POST", body });
  });

  // A long press on the order's number is for staff.
  let press = 0;
  const release = () => clearTimeout(press);
  document.addEventListener("pointerdown", (event) => {
    release();
    if (paired() && event.target.closest(".tail")) press = setTimeout(() => show("staff"), PRESS);
    if (view === "staff") staffUntil = now() + STAFF_FOR;
  });
  for (const over of ["pointerup", "pointercancel", "pointerleave"]) document.addEventListener(over, release);
  document.addEventListener("contextmenu", (event) => {
    if (event.target.closest(".tail")) event.preventDefault();
  });

  // --- sound: after the first touch only ---

  const Context = window.AudioContext || window.webkitAudioContext;
  const audio = Context ? new Context() : null;
  const heardOf = () => { sound.hidden = !audio || audio.state === "running" || !paired(); };
  function unmute() {
    if (audio && audio.state !== "running") audio.resume().then(heardOf, heardOf);
  }
  if (audio) audio.onstatechange = heardOf;
  document.addEventListener("keydown", unmute);

  // Two notes.
  function chime() {
    if (!audio || audio.state !== "running") return;
    root.dataset.chimed = Number(root.dataset.chimed || 0) + 1;
    [[880, 0], [1318.5, 0.16]].forEach(([pitch, after]) => {
      const note = audio.createOscillator();
      const loud = audio.createGain();
      const from = audio.currentTime + after;
      note.frequency.value = pitch;
      loud.gain.setValueAtTime(0.0001, from);
      loud.gain.exponentialRampToValueAtTime(0.4, from + 0.02);
      loud.gain.exponentialRampToValueAtTime(0.0001, from + 0.6);
      note.connect(loud).connect(audio.destination);
      note.start(from);
      note.stop(from + 0.65);
    });
  }

  // --- the screen stays on ---

  let lock = null;
  function awake() {
    if (!navigator.wakeLock || document.hidden || !paired()) return;
    if (lock && !lock.released) return;
    // Refused when the battery is low, or over plain http: the tablet's own settings have to do.
    navigator.wakeLock.request("screen").then((held) => { lock = held; }, () => {});
  }
  document.addEventListener("visibilitychange", () => {
    awake();
    if (!document.hidden && paired()) ask();
  });

  arrived();
  heardOf();
  awake();
  if (paired()) listen();
})();
