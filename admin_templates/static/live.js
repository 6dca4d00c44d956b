// The open list: new rows as they come, running rows updating in place, and a request beside the list.
const MOST = 200; // rows that stay
const list = document.querySelector("table[data-list]");
const body = list?.tBodies[0];

// parsed by the browser as a document of its own, where nothing runs
const documentAt = (address) => new Promise((found, failed) => {
  const call = new XMLHttpRequest();
  call.open("GET", address);
  call.responseType = "document";
  call.onload = () => (call.status === 200 && call.response ? found(call) : failed(new Error(String(call.status))));
  call.onerror = () => failed(new Error("offline"));
  call.send();
});
// addresses are relative to the page that they come from
const brought = (call, node) => {
  const copy = document.importNode(node, true);
  for (const name of ["href", "src", "action"]) {
    for (const each of [copy, ...copy.querySelectorAll(`[${name}]`)]) {
      const value = each.getAttribute(name);
      if (value !== null && !value.startsWith("#")) each.setAttribute(name, new URL(value, call.responseURL).href);
    }
  }
  return copy;
};
const told = (node) => document.dispatchEvent(new CustomEvent("llmobs:shown", { detail: node }));

// the panel
const place = document.querySelector("[data-panel-place]");
const roomy = matchMedia("(min-width: 900px)");
let panel = null;
let opening = 0;
const width = (pixels) => {
  const wide = Math.max(320, Math.min(pixels, innerWidth - 360));
  place.style.setProperty("--panel", `${wide}px`);
  try { localStorage.setItem("llmobs-panel", String(wide)); } catch { /* storage may be forbidden */ }
  return wide;
};
const build = () => {
  const grip = document.createElement("div");
  const bar = document.createElement("header");
  const whole = document.createElement("a");
  const shut = document.createElement("button");
  panel = document.createElement("aside");
  panel.className = "beside-list card";
  panel.setAttribute("aria-label", "Request");
  grip.className = "grip";
  grip.tabIndex = 0;
  for (const [name, value] of [["role", "separator"], ["aria-orientation", "vertical"], ["aria-label", "Width of the panel"]]) grip.setAttribute(name, value);
  whole.className = "button";
  whole.textContent = "Open as a page";
  shut.type = "button";
  shut.textContent = "Close";
  shut.title = "Close (Esc)";
  shut.addEventListener("click", close);
  bar.append(whole, shut);
  panel.append(grip, bar, document.createElement("div"));
  place.append(panel);
  place.classList.add("with-panel");
  let kept = 0;
  try { kept = Number(localStorage.getItem("llmobs-panel")); } catch { /* storage may be forbidden */ }
  const now = width(kept || Math.round(innerWidth * 0.45));
  const say = (pixels) => { for (const [name, value] of [["now", pixels], ["min", 320], ["max", innerWidth - 360]]) grip.setAttribute(`aria-value${name}`, String(value)); };
  say(now);
  grip.addEventListener("pointerdown", (event) => {
    grip.setPointerCapture(event.pointerId);
    const drag = (moved) => say(width(panel.getBoundingClientRect().right - moved.clientX));
    grip.addEventListener("pointermove", drag);
    grip.addEventListener("pointerup", () => grip.removeEventListener("pointermove", drag), { once: true });
  });
  grip.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 32, ArrowRight: -32 }[event.key];
    if (step) { event.preventDefault(); say(width(panel.offsetWidth + step)); }
  });
};
const remember = (id) => {
  const address = new URL(location.href);
  if (id) address.searchParams.set("open", id); else address.searchParams.delete("open");
  history.replaceState(null, "", address);
};
const close = () => {
  if (!panel) return;
  opening += 1;
  panel.remove();
  panel = null;
  place.classList.remove("with-panel");
  body?.querySelector("tr.on")?.classList.remove("on");
  remember("");
};
const open = async (row) => {
  const link = row.querySelector("a[data-open]");
  if (!link) return; // a list without that column
  const mine = ++opening;
  const address = new URL(link.href);
  address.searchParams.set("panel", "1");
  if (!panel) build();
  for (const each of body.querySelectorAll("tr.on")) each.classList.remove("on");
  row.classList.add("on");
  remember(row.dataset.id);
  const content = panel.lastElementChild;
  content.setAttribute("aria-busy", "true");
  try {
    const call = await documentAt(address);
    if (mine !== opening || !panel) return;
    content.replaceChildren(...[...call.response.querySelector("main").childNodes].map((node) => (node.nodeType === 1 ? brought(call, node) : document.importNode(node, true))));
    address.searchParams.delete("panel");
    panel.querySelector("header a").href = address.href;
    for (const script of call.response.querySelectorAll("script[type=module][src]")) await import(new URL(script.getAttribute("src"), call.responseURL).href);
    told(content);
  } catch (error) {
    if (mine === opening && panel) content.textContent = `This request could not be shown (${error.message}).`;
  }
  if (mine === opening) { content.removeAttribute("aria-busy"); panel?.scrollTo(0, 0); }
};
if (body && place) {
  body.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-open]");
    if (!link || !roomy.matches || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    for (const each of body.querySelectorAll("tr.at")) each.classList.remove("at");
    link.closest("tr").classList.add("at");
    open(link.closest("tr"));
  });
  // the neighbours of a request in the panel are shown there, where the list has them
  place.addEventListener("click", (event) => {
    const link = event.target.closest(".beside-list a[rel=prev], .beside-list a[rel=next]");
    const row = link && [...body.rows].find((each) => each.querySelector("a[data-open]")?.pathname === link.pathname);
    if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    for (const each of body.querySelectorAll("tr.at")) each.classList.remove("at");
    row.classList.add("at");
    open(row);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) close();
    const row = body.querySelector("tr.at");
    if (panel && row && !row.classList.contains("on") && (event.key === "j" || event.key === "k")) open(row);
  });
  const wanted = new URL(location.href).searchParams.get("open");
  const row = wanted && [...body.rows].find((each) => each.dataset.id === wanted);
  if (row && roomy.matches) open(row);
}

// the feed
const section = document.querySelector("[data-feed]");
const toggle = document.querySelector("button[data-live]");
const fresh = document.querySelector("button[data-show-new]");
if (section && body && toggle && fresh) {
  const state = toggle.querySelector("[data-state]");
  const address = new URL(section.dataset.feed, document.baseURI);
  let source = null;
  let paused = false;
  let waiting = []; // rows that came while the reader looked elsewhere
  let missed = false; // there are more than were told one by one
  let turn = Promise.resolve();
  const say = (word) => {
    state.textContent = paused ? "Paused" : word;
    toggle.setAttribute("aria-pressed", String(!paused));
    toggle.dataset.live = paused ? "paused" : word === "Live" ? "on" : "off";
  };
  const count = () => {
    fresh.hidden = !waiting.length && !missed;
    fresh.textContent = missed ? `${waiting.length}+ new` : `${waiting.length} new`;
  };
  // whoever reads, or points at a row, does not have it moved away
  const busy = () => paused || scrollY > 120 || section.matches(":hover") || Boolean(body.querySelector("tr.at"));
  const put = (rows) => {
    section.querySelector(".empty")?.remove();
    body.prepend(...rows.toReversed());
    for (const row of rows) told(row);
    while (body.rows.length > Math.max(MOST, rows.length)) body.lastElementChild.remove();
  };
  fresh.addEventListener("click", () => {
    if (missed) { location.reload(); return; }
    put(waiting);
    waiting = [];
    count();
    scrollTo({ top: 0 });
  });
  const news = async (data) => {
    const rows = new URL(section.dataset.rows, document.baseURI);
    rows.searchParams.set("id", [...data.new, ...data.changed].join(","));
    const call = await documentAt(rows);
    const came = new Map([...call.response.querySelectorAll("tr[data-row]")].map((row) => [row.dataset.id, brought(call, row)]));
    const added = [];
    for (const id of [...data.changed, ...data.new]) {
      const row = came.get(id);
      if (!row) continue;
      const there = [...body.rows].find((each) => each.dataset.id === id);
      const held = waiting.findIndex((each) => each.dataset.id === id);
      if (there) {
        for (const name of ["at", "on"]) if (there.classList.contains(name)) row.classList.add(name);
        const focused = there.contains(document.activeElement);
        there.replaceWith(row);
        told(row);
        if (focused) row.querySelector("a[data-open]")?.focus({ preventScroll: true });
        if (row.classList.contains("on") && panel) open(row);
      } else if (held >= 0) waiting[held] = row;
      else if (data.new.includes(id)) added.push(row);
    }
    missed ||= data.more;
    if (busy() || waiting.length || missed) waiting.push(...added); else put(added);
    count();
  };
  const listen = () => {
    source = new EventSource(address);
    let late;
    source.onopen = () => { clearTimeout(late); say("Live"); };
    source.onerror = () => {
      clearTimeout(late);
      late = setTimeout(() => say("Connecting"), 700); // some servers end it now and then, and are there again at once
      if (source?.readyState === EventSource.CLOSED) { source = null; setTimeout(() => { if (!source && !document.hidden) listen(); }, 5000); }
    };
    source.addEventListener("rows", (event) => {
      if (event.lastEventId) address.searchParams.set("after", event.lastEventId);
      const data = JSON.parse(event.data);
      turn = turn.then(() => news(data)).catch(() => { missed = true; count(); });
    });
  };
  toggle.addEventListener("click", () => {
    paused = !paused;
    say("Live");
    if (!paused && !missed) { put(waiting); waiting = []; count(); }
  });
  // a hidden page takes no connection from the others: browsers have six
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; } else if (!source) listen();
  });
  addEventListener("pagehide", () => { source?.close(); source = null; });
  addEventListener("pageshow", (event) => { if (event.persisted && !source) listen(); });
  say("Connecting");
  listen();
}
