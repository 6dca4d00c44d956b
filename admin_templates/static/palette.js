// The command palette (Ctrl K) and the sheet of keys (?). What they offer is what the page has: its menu, its data-key
// elements, and what the store knows by that name. Fetched by admin.js when first asked for.
const base = document.documentElement.dataset.base ?? "./";
const make = (tag, values = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), values);
  made.append(...children.filter((child) => child !== null));
  return made;
};
const kbd = (key) => make("kbd", { textContent: key });
const label = (element) => (element.dataset.label ?? element.title ?? "").trim() || element.textContent.trim().replace(/\s+/g, " ").slice(0, 80);
const shown = (element) => element.checkVisibility?.() ?? true;

// a dialog that gives the focus back to where it was
const open = (dialog) => {
  document.querySelector("dialog.over[open]")?.close();
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.showModal();
};

// everything that can be chosen without asking the server
const pages = () => [...document.querySelectorAll(".menu a")].map((link) => ({
  text: link.textContent, kind: "page", keys: link.dataset.go ? ["g", link.dataset.go] : [], act: () => link.click(),
}));
const actions = () => [...document.querySelectorAll("[data-key], [data-action]")].filter(shown).map((each) => ({
  text: label(each), kind: "action", keys: each.dataset.key ? [each.dataset.key] : [], act: () => each.click(),
})).filter((each) => each.text);
const go = (to) => { location.href = base + to; };

const palette = () => {
  const input = make("input", { type: "text", placeholder: "Page, action, id, model, user…", autocomplete: "off", spellcheck: false });
  const list = make("ul", { id: "palette-list", role: "listbox" });
  const dialog = make("dialog", { className: "over palette" }, input, list);
  for (const [name, value] of [["role", "combobox"], ["aria-label", "Go to"], ["aria-controls", "palette-list"], ["aria-expanded", "true"], ["aria-autocomplete", "list"]]) input.setAttribute(name, value);
  list.setAttribute("aria-label", "Choices");
  dialog.setAttribute("aria-label", "Go to");
  const fixed = [...pages(), ...actions()];
  let choices = [], at = 0, found = [], waiting = 0;

  const mark = (place) => {
    at = Math.max(0, Math.min(choices.length - 1, place));
    [...list.children].forEach((item, number) => item.setAttribute("aria-selected", String(number === at)));
    input.setAttribute("aria-activedescendant", choices.length ? `palette-${at}` : "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const choose = (choice) => { if (choice) { dialog.close(); choice.act(); } };
  const draw = () => {
    const text = input.value.trim(), low = text.toLowerCase();
    const rank = (each) => { const place = each.text.toLowerCase().indexOf(low); return place === 0 ? 0 : place > 0 ? 1 : 2; };
    choices = fixed.filter((each) => rank(each) < 2).sort((one, other) => rank(one) - rank(other)).slice(0, text ? 6 : 20);
    choices.push(...found);
    if (text) choices.push({ text: `Search requests for ${text}`, kind: "search", keys: [], act: () => go(`requests?q=${encodeURIComponent(text)}`) });
    list.replaceChildren(...choices.map((each, number) => {
      const item = make("li", { id: `palette-${number}`, role: "option" }, make("span", { textContent: each.text }), make("span", { className: "end" }, make("span", { textContent: each.kind }), ...each.keys.map(kbd)));
      item.addEventListener("click", () => choose(each));
      return item;
    }));
    mark(0);
  };
  const ask = async () => {
    const text = input.value.trim();
    if (text.length < 2) { found = []; return; }
    try {
      const answer = await fetch(`${base}jump.json?list=1&to=${encodeURIComponent(text)}`);
      const told = answer.ok ? (await answer.json()).found : [];
      if (text !== input.value.trim()) return;
      found = told.map((each) => ({ text: each.name, kind: each.kind, keys: [], act: () => go(each.to) }));
      const kept = at;
      draw();
      mark(kept);
    } catch { /* without the server the pages are still there */ }
  };
  input.addEventListener("input", () => { found = []; draw(); clearTimeout(waiting); waiting = setTimeout(ask, 120); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (step) { event.preventDefault(); mark(at + step); }
    if (event.key === "Enter") { event.preventDefault(); choose(choices[at]); }
  });
  draw();
  open(dialog);
  input.focus();
};

const group = (title, rows) => make("div", {}, make("h3", { textContent: title }), make("dl", { className: "keys" }, ...rows.flatMap(([keys, does]) => [make("dt", {}, ...keys.flatMap((key) => [kbd(key), " "])), make("dd", { textContent: does })])));
const sheet = async () => {
  const close = make("button", { type: "button", textContent: "Close", className: "quiet" });
  const body = make("div", { className: "body sheet" });
  const dialog = make("dialog", { className: "over" }, make("header", {}, make("h2", { textContent: "Keys" }), make("span", { className: "end" }, close)), body);
  dialog.setAttribute("aria-label", "Keys");
  close.addEventListener("click", () => dialog.close());
  const here = actions().filter((each) => each.keys.length).map((each) => [each.keys, each.text]);
  if (here.length) body.append(group("On this page", here));
  body.append(group("After g", pages().filter((each) => each.keys.length).map((each) => [[each.keys[1]], each.text])));
  open(dialog);
  try {
    const told = await (await fetch(`${base}help.json`)).json();
    body.prepend(...told.keys.map((each) => group(each.where, each.keys.map(({ keys, does }) => [keys, does]))));
  } catch { /* what the page itself says is shown */ }
};

document.addEventListener("llmobs:palette", palette);
document.addEventListener("llmobs:keys", sheet);
