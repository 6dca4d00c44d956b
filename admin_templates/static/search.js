// Type-ahead of the search bar: keys and values that the server knows, for the word under the cursor.
let count = 0;
for (const input of document.querySelectorAll("input[data-suggest]")) {
  const list = document.createElement("ul");
  list.id = `suggest-${++count}`;
  list.className = "suggest";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  list.hidden = true;
  input.after(list);
  for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-expanded", "false"], ["aria-controls", list.id]]) input.setAttribute(name, value);

  let items = [];
  let at = -1;
  let asked = 0;
  let timer = 0;
  const show = (open) => {
    list.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
    if (!open) { at = -1; input.removeAttribute("aria-activedescendant"); }
  };
  const mark = () => {
    [...list.children].forEach((each, place) => each.setAttribute("aria-selected", String(place === at)));
    if (at < 0) { input.removeAttribute("aria-activedescendant"); return; }
    input.setAttribute("aria-activedescendant", list.children[at].id);
    list.children[at].scrollIntoView({ block: "nearest" });
  };
  const take = (item) => {
    const cursor = input.selectionStart ?? input.value.length;
    const open = /[:.]$/.test(item.text);
    const rest = input.value.slice(cursor).replace(/^[^\s()]*/, "");
    const before = input.value.slice(0, item.start) + item.text + (open || rest.startsWith(" ") ? "" : " ");
    input.value = before + rest;
    input.setSelectionRange(before.length, before.length);
    input.focus();
    show(false);
    if (open) ask();
  };
  const draw = () => {
    list.replaceChildren(...items.map((item, place) => {
      const row = document.createElement("li");
      const word = document.createElement("bdi");
      const means = document.createElement("span");
      row.id = `${list.id}-${place}`;
      row.setAttribute("role", "option");
      word.textContent = item.text;
      means.textContent = item.means;
      row.append(word, means);
      row.addEventListener("mousedown", (event) => { event.preventDefault(); take(item); });
      return row;
    }));
    at = -1;
    show(items.length > 0 && document.activeElement === input);
    mark();
  };
  const ask = async () => {
    const mine = ++asked;
    const url = new URL(input.dataset.suggest, document.baseURI);
    url.searchParams.set("q", input.value);
    url.searchParams.set("at", String(input.selectionStart ?? input.value.length));
    try {
      const answer = await fetch(url, { headers: { accept: "application/json" } });
      if (mine !== asked) return; // somebody typed on
      items = answer.ok ? (await answer.json()).suggestions : [];
    } catch { items = []; }
    if (mine === asked) draw();
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(ask, 100); };
  input.addEventListener("input", soon);
  input.addEventListener("focus", soon);
  if (document.activeElement === input) soon(); // this file was fetched because it is
  input.addEventListener("click", soon);
  input.addEventListener("blur", () => { clearTimeout(timer); asked += 1; show(false); });
  input.addEventListener("keydown", (event) => {
    if (list.hidden) { if (event.key === "ArrowDown") { event.preventDefault(); ask(); } return; }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      at = (at + step + items.length + (at < 0 && step < 0 ? 1 : 0)) % items.length;
      mark();
    } else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) take(items[at]);
    else if (event.key === "Tab" && items.length === 1) take(items[0]);
    else if (event.key === "Escape") show(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
