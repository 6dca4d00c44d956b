// A trace or a session in place: what a link of its page leads to is fetched and put where it belongs, the rest stays.
const region = () => document.getElementById("trace") ?? document.getElementById("session");
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
let turn = 0; // of the newest fetch: an older one that comes later is not shown

// a page as a document: it is parsed but nothing in it runs, and no text becomes markup by our hand
const fetched = (url) => new Promise((done, failed) => {
  const call = new XMLHttpRequest();
  call.open("GET", url);
  call.responseType = "document";
  call.timeout = 15000;
  call.onload = () => (call.status === 200 && call.response ? done(call.response) : failed());
  call.onerror = call.ontimeout = failed;
  call.send();
});

const show = (page, { keep = false } = {}) => {
  const old = region();
  const next = page.getElementById(old.id);
  if (!next) return false;
  const at = old.querySelector("[data-row].at")?.dataset.id;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const where = focused && { id: focused.closest("[data-row]")?.dataset.id, name: focused.name, value: focused.value };
  if (keep && where?.name) return true; // nobody likes to lose what they are typing
  const top = scrollY;
  document.title = page.title;
  old.replaceWith(document.adoptNode(next));
  const rows = all("[data-row]", next);
  const row = rows.find((each) => each.dataset.id === at) ?? next.querySelector("[data-row].on");
  row?.classList.add("at");
  document.dispatchEvent(new CustomEvent("llmobs:shown", { detail: next }));
  scrollTo(0, top);
  if (where?.name) next.querySelector(`[name="${CSS.escape(where.name)}"]`)?.focus({ preventScroll: true });
  else if (where) rows.find((each) => each.dataset.id === where.id)?.querySelector("a[data-open]")?.focus({ preventScroll: true });
  if (!keep) next.querySelector("[data-row].on")?.scrollIntoView({ block: "nearest" });
  return true;
};

const go = async (url, { push = true, keep = false } = {}) => {
  const mine = ++turn;
  if (!keep) region().setAttribute("aria-busy", "true");
  try {
    const page = await fetched(url);
    if (mine !== turn) return;
    if (!show(page, { keep })) throw new Error();
    if (push) history.pushState({ llmobs: true }, "", url);
  } catch {
    if (mine === turn && !keep) location.assign(url);
  } finally {
    region()?.removeAttribute("aria-busy");
  }
};

const here = (url) => url.origin === location.origin && url.pathname === location.pathname;
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (!region()?.contains(link) || !here(new URL(link.href))) return;
  event.preventDefault();
  const row = link.closest("[data-row]");
  if (row) { all("[data-row].at").forEach((each) => each.classList.remove("at")); row.classList.add("at"); }
  go(link.href);
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!region()?.contains(form) || form.method !== "get" || !here(new URL(form.action))) return;
  event.preventDefault();
  const said = [...new FormData(form)].filter(([, value]) => value);
  go(`${form.action.split("?")[0]}?${new URLSearchParams(said)}`);
});
addEventListener("popstate", () => { if (region()) go(location.href, { push: false }); });

// keys: h and l fold and unfold; on a leaf h goes to the node above
const current = () => region()?.querySelector("[data-row].at") ?? region()?.querySelector("[data-row].on");
const rise = (row) => {
  const level = Number(row.dataset.level);
  for (let up = row.previousElementSibling; up; up = up.previousElementSibling) {
    if (Number(up.dataset.level) < level) {
      row.classList.remove("at");
      up.classList.add("at");
      up.querySelector("a[data-open]")?.focus({ preventScroll: true });
      up.scrollIntoView({ block: "nearest" });
      return;
    }
  }
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.target.closest?.("input, select, textarea")) return;
  const row = current();
  if (!row || (event.key !== "h" && event.key !== "l")) return;
  event.preventDefault();
  const link = row.querySelector(event.key === "h" ? "a[data-fold]" : "a[data-unfold]");
  if (link) link.click();
  else if (event.key === "h") rise(row);
});

// the timeline: Ctrl and the wheel zoom at the pointer, a double click fits a bar, dragging chooses a time
const table = () => region()?.querySelector("table.line");
const zoom = (from, to) => {
  const address = new URL(location.href);
  const low = Math.max(0, from);
  address.searchParams.set("zoom", `${low.toFixed(3)}-${Math.max(to, low + 0.001).toFixed(3)}`);
  address.hash = "";
  go(address.href);
};
const range = () => { const points = JSON.parse(table().dataset.points); return [points[0][0], points.at(-1)[0], points]; };
const timeAt = (bar, clientX) => { // idle time may be drawn short: between two points of the axis time runs evenly
  const box = bar.getBoundingClientRect();
  const x = Math.min(1000, Math.max(0, ((clientX - box.left) / box.width) * 1000));
  const points = range()[2];
  const place = Math.max(1, points.findIndex((point) => point[1] >= x));
  const [[low, left], [high, right]] = points.slice(place - 1, place + 1);
  return low + ((high - low) * (x - left)) / Math.max(right - left, 0.001);
};
const lane = (target) => (table()?.contains(target) ? target.closest?.("svg.bar, svg.ticks") : null);
let rolled = 0;
document.addEventListener("wheel", (event) => {
  const bar = event.ctrlKey && lane(event.target);
  if (!bar) return;
  event.preventDefault();
  if (event.timeStamp - rolled < 120) return;
  rolled = event.timeStamp;
  const [low, high] = range();
  const at = timeAt(bar, event.clientX);
  const scale = event.deltaY < 0 ? 0.6 : 1 / 0.6;
  zoom(at - (at - low) * scale, at + (high - at) * scale);
}, { passive: false });
document.addEventListener("dblclick", (event) => {
  const bar = lane(event.target);
  if (!bar?.dataset.start) return;
  const start = Number(bar.dataset.start);
  zoom(start, start + Math.max(Number(bar.dataset.took), 0.001));
});
let drag = null;
document.addEventListener("pointerdown", (event) => { const bar = lane(event.target); drag = bar && event.button === 0 ? { bar, x: event.clientX } : null; });
document.addEventListener("pointerup", (event) => {
  const from = drag;
  drag = null;
  if (!from || !from.bar.isConnected || Math.abs(event.clientX - from.x) < 8) return;
  zoom(...[from.x, event.clientX].map((x) => timeAt(from.bar, x)).sort((a, b) => a - b));
});

// while anything runs the page is asked for again, at once when a call begins or ends; rows stay where they are
const again = () => { if (region()?.matches("[data-live]") && !document.hidden && !region().matches("[aria-busy]")) go(location.href, { push: false, keep: true }); };
let source = null;
const listen = () => {
  const address = !document.hidden && region()?.dataset.live;
  if (address && !source) { source = new EventSource(address); source.addEventListener("rows", again); }
  if (!address) { source?.close(); source = null; }
};
listen();
setInterval(() => { listen(); again(); }, 2000);
addEventListener("pagehide", () => { source?.close(); source = null; });
