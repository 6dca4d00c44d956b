// What the pages gain with JavaScript: keys, copying, local times, the theme. Nothing here is needed for reading.
const root = document.documentElement;
const all = (selector) => [...document.querySelectorAll(selector)];

// times: the server writes UTC, the reader thinks in local time
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const hours = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const clock = new Intl.DateTimeFormat(undefined, { ...hours, second: "2-digit" });
const minutes = new Intl.DateTimeFormat(undefined, hours);
const today = day.format(new Date());
const local = (part) => {
  for (const time of part.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    time.textContent = day.format(date) === today ? clock.format(date) : `${day.format(date)} ${minutes.format(date)}`;
  }
};
local(document);
document.addEventListener("llmobs:shown", (event) => local(event.detail)); // what another module brought later

// theme: what the system says until the reader chooses; the choice stays in this browser
const themes = ["auto", "light", "dark"];
const named = () => root.dataset.theme ?? "auto";
for (const button of all("[data-theme-switch]")) {
  const show = () => { button.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[named()]; };
  show();
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(named()) + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    try { localStorage.setItem("llmobs-theme", next); } catch { /* storage may be forbidden */ }
    show();
  });
}

// copying
const copy = async (text, button) => {
  const before = button?.textContent;
  try { await navigator.clipboard.writeText(text); if (button) button.textContent = "Copied"; }
  catch { if (button) button.textContent = "Press Ctrl+C"; }
  if (button) setTimeout(() => { button.textContent = before; }, 1500);
};
for (const button of all("button[data-copy]")) {
  button.addEventListener("click", () => {
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    getSelection()?.selectAllChildren(source);
    copy(source.textContent, button);
  });
}

// a form that opens is there to be filled in; by key at once, lest the next letters be taken for keys
const fill = (box) => { if (box?.open) box.querySelector("input:not([type=hidden]), textarea")?.focus(); };
for (const box of all("details[data-focus]")) box.addEventListener("toggle", () => { if (!box.contains(document.activeElement?.form)) fill(box); });
const press = (each) => { each.click(); fill(each.closest("details[data-focus]")); };

// keys
// rows come and go while a page is open: they are asked for when a key is pressed
const place = (rows) => {
  const at = rows.findIndex((row) => row.classList.contains("at"));
  return at < 0 ? rows.findIndex((row) => row.classList.contains("on")) : at;
};
const move = (step) => {
  const rows = all("[data-row]:not([hidden])");
  if (!rows.length) return;
  const from = place(rows);
  rows[from]?.classList.remove("at");
  const at = Math.max(0, Math.min(rows.length - 1, from < 0 ? (step > 0 ? 0 : rows.length - 1) : from + step));
  rows[at].classList.add("at");
  rows[at].scrollIntoView({ block: "nearest" });
  rows[at].querySelector("a[data-open]")?.focus({ preventScroll: true });
};
let pointer = [-1, -1]; // the link of a row lies over its cells: they never hover
addEventListener("pointermove", (event) => { pointer = [event.clientX, event.clientY]; }, { passive: true });
const follow = (selector) => document.querySelector(selector)?.click();
const keys = {
  j: () => move(1),
  k: () => move(-1),
  Enter: () => { const rows = all("[data-row]:not([hidden])"); rows[place(rows)]?.querySelector("a[data-open]")?.click(); },
  "/": () => document.querySelector("[data-search]")?.focus(),
  f: () => { // by the value that is pointed at, else by the first one of the row
    const told = (document.elementsFromPoint(...pointer).find((each) => each.dataset.is) ?? document.querySelector("[data-row].at [data-is]"))?.dataset.is;
    if (!told || !document.querySelector("form[data-filter] [data-search]")) return;
    const [name, ...value] = told.split("=");
    const to = new URL(location.href);
    for (const gone of ["cursor", "open"]) to.searchParams.delete(gone);
    to.searchParams.set(name, value.join("="));
    location.assign(to);
  },
  "[": () => follow("[rel=prev]"),
  "]": () => follow("[rel=next]"),
};
// what a page needs only once something is used is fetched then: the palette, the sheet of keys, type-ahead
const bring = async (address) => { await import(new URL(address, document.baseURI).href); };
for (const each of all("[data-brings]")) each.addEventListener("focus", () => bring(each.dataset.brings), { once: true });
const summon = async (what) => {
  if (!root.dataset.palette) return;
  await bring(root.dataset.palette);
  document.dispatchEvent(new CustomEvent(`llmobs:${what}`));
};
for (const button of all("[data-summon]")) button.addEventListener("click", () => summon(button.dataset.summon));
keys["?"] = () => summon("keys");
let going = 0; // until when a letter names a page
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && root.dataset.palette) {
    event.preventDefault();
    summon("palette");
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target;
  if (target.closest?.("input, select, textarea")) { if (event.key === "Escape") target.blur(); return; }
  if (event.key === "Enter" && target.closest?.("a, button, summary")) return;
  if (document.querySelector("dialog[open]")) return;
  const page = event.timeStamp < going && all("[data-go]").find((each) => each.dataset.go === event.key);
  going = event.key === "g" ? event.timeStamp + 1500 : 0;
  if (page) { event.preventDefault(); page.click(); return; }
  const link = all("[data-key]").find((each) => each.dataset.key === event.key);
  const act = keys[event.key] ?? (link && (() => press(link)));
  if (act) { event.preventDefault(); act(); }
});

// filters: empty fields stay out of the address
for (const form of all("form[data-filter]")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    addEventListener("pageshow", () => { for (const field of form.elements) field.disabled = false; });
  });
}

// the sign-in link carries its code behind the #, where no server and no log sees it
const secret = document.querySelector("[data-code]");
if (secret && location.hash.length > 1) {
  secret.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  secret.form.requestSubmit();
}
