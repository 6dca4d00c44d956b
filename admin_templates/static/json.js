// JSON as a tree with search, built only where it is opened: a megabyte costs as much as its first level.
const GROUP = 100; // members shown at once; more are put into groups of so many
const LONG = 300; // characters of a text that are shown at once
const SHORT = 240; // characters of JSON that need no tree
const make = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const isTree = (value) => value !== null && typeof value === "object";
const membersOf = (value) => (Array.isArray(value) ? value.map((each, at) => [at, each]) : Object.entries(value));

// what a body says: JSON, else the events of a stream
const parsed = (text) => {
  try { return JSON.parse(text); } catch { /* no single document */ }
  const events = [];
  for (const line of text.split(/\r?\n/)) {
    const data = line.startsWith("data:") ? line.slice(5).trim() : line.trim();
    if (!/^[[{]/.test(data)) continue;
    try { events.push(JSON.parse(data)); } catch { /* cut short */ }
  }
  return events.length ? events : undefined;
};

// one member; `open` builds what is below it, `child` gives the one with a key
const node = (key, value, members) => {
  if (!isTree(value)) {
    const item = make("div", undefined, "leaf");
    if (key !== undefined) item.append(make("b", `${key}: `));
    const text = typeof value === "string" ? JSON.stringify(value) : String(value);
    const shown = make("span", text.slice(0, LONG), `json-${value === null ? "null" : typeof value}`);
    item.append(shown);
    if (text.length > LONG) {
      const more = make("button", `${(text.length - LONG).toLocaleString()} more`, "quiet");
      more.type = "button";
      more.addEventListener("click", () => { shown.textContent = text; more.remove(); });
      item.append(more);
    }
    return { item, open() {}, child() {} };
  }
  const all = members ?? membersOf(value);
  const item = make("details", undefined, "branch");
  const head = make("summary");
  if (key !== undefined) head.append(make("b", `${key}: `));
  head.append(make("span", members ? "…" : Array.isArray(value) ? `[${all.length}]` : `{${all.length}}`, "soft"));
  item.append(head);
  let below = null;
  const build = () => {
    if (below) return;
    below = new Map();
    const groups = all.length > GROUP && !members;
    for (let at = 0; at < all.length; at += groups ? GROUP : 1) {
      if (groups) {
        const some = all.slice(at, at + GROUP);
        const group = node(`${some[0][0]} – ${some[some.length - 1][0]}`, value, some);
        for (const [name] of some) below.set(String(name), { open: group.open, child: group.child, group });
        item.append(group.item);
      } else {
        const [name, each] = all[at];
        const made = node(name, each);
        below.set(String(name), made);
        item.append(made.item);
      }
    }
  };
  item.addEventListener("toggle", () => { if (item.open) build(); });
  return {
    item,
    open() { build(); item.open = true; },
    child(name) {
      build();
      const found = below.get(String(name));
      if (!found?.group) return found;
      found.group.open();
      return found.group.child(name);
    },
  };
};

// the paths of all keys and values that hold a text
function* found(value, wanted, path = []) {
  for (const [key, each] of membersOf(value)) {
    const here = [...path, key];
    const said = isTree(each) ? String(key) : `${key} ${each}`;
    if (said.toLowerCase().includes(wanted)) yield here;
    if (isTree(each)) yield* found(each, wanted, here);
  }
}

// where all of a body is that the page holds the beginning of
const wholeOf = (pre) => pre.dataset.json === "body" && pre.parentElement.querySelector("a[download]");

const show = async (pre, button) => {
  let text = pre.textContent;
  const whole = wholeOf(pre);
  if (whole) {
    button.disabled = true;
    try { text = await (await fetch(whole.href)).text(); } catch { /* what is on the page will do */ }
    button.disabled = false;
  }
  const value = parsed(text);
  if (!isTree(value)) { button.textContent = "This is no JSON"; button.disabled = true; return null; }
  const box = make("div", undefined, "json");
  const search = make("input");
  search.type = "search";
  search.placeholder = "Search in it, Enter for the next";
  search.setAttribute("aria-label", "Search in this JSON");
  const told = make("span", "", "soft small");
  told.setAttribute("role", "status");
  const tree = node(undefined, value);
  tree.open();
  let matches = [], at = 0, last = "", marked = null;
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const wanted = search.value.trim().toLowerCase();
    if (!wanted) return;
    if (wanted !== last) { matches = [...found(value, wanted)]; at = 0; last = wanted; } else at = (at + 1) % Math.max(1, matches.length);
    told.textContent = matches.length ? `${at + 1} of ${matches.length}` : "nothing";
    let place = tree;
    for (const key of matches[at] ?? []) { place.open(); place = place.child(key); }
    marked?.classList.remove("hit");
    if (!matches.length) return;
    marked = place.item;
    marked.classList.add("hit");
    marked.scrollIntoView({ block: "nearest" });
  });
  box.append(search, told, tree.item);
  return box;
};

const enhance = (root) => {
  for (const pre of root.querySelectorAll("pre[data-json]:not([data-ready])")) {
    pre.dataset.ready = "";
    if (pre.textContent.length < SHORT || !(wholeOf(pre) || /^\s*[[{]/.test(pre.textContent))) continue;
    const button = make("button", "As a tree", "quiet json-switch");
    button.type = "button";
    let box = null;
    button.addEventListener("click", async () => {
      box ??= await show(pre, button);
      if (!box) return;
      if (!box.isConnected) pre.after(box);
      pre.hidden = !pre.hidden;
      box.hidden = !pre.hidden;
      button.textContent = pre.hidden ? "As text" : "As a tree";
    });
    pre.before(button);
  }
};
enhance(document);
document.addEventListener("llmobs:shown", (event) => enhance(event.detail));
