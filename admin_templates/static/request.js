// What the page of a request gains: copying in one press, the stream as it was at any moment.
// Everything listens at the document, so that it works in a panel that is filled later, too.

// a menu closes when one leaves it
document.addEventListener("click", (event) => {
  for (const pop of document.querySelectorAll("[data-pop][open]")) if (!pop.contains(event.target)) pop.open = false;
});
document.addEventListener("keydown", (event) => {
  const pop = event.key === "Escape" && document.querySelector("[data-pop][open]");
  if (pop) { pop.open = false; pop.querySelector("summary").focus(); }
});
document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("[data-pop]") && event.target.open) event.target.querySelector("a")?.focus();
}, true);

// a form of the request into the clipboard; where that is forbidden, its own page shows it
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("[data-copy-call]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const before = link.textContent;
  try {
    const answer = await fetch(`${link.href}.json`);
    await navigator.clipboard.writeText((await answer.json()).text);
    link.textContent = "Copied";
    setTimeout(() => { link.textContent = before; link.closest("[data-pop]")?.removeAttribute("open"); }, 900);
  } catch { location.assign(link.href); }
});

// a request that runs is shown anew when it has ended; not while somebody writes a note
const awaits = document.querySelector("[data-awaits]");
if (awaits) {
  const source = new EventSource(awaits.dataset.feed);
  source.addEventListener("rows", (event) => {
    if (!JSON.parse(event.data).changed.includes(awaits.dataset.awaits)) return;
    source.close();
    const writing = () => document.activeElement?.matches("input, select, textarea");
    const anew = () => { if (writing()) setTimeout(anew, 1000); else location.reload(); };
    anew();
  });
  addEventListener("pagehide", () => source.close());
}

// the stream at a moment
const loaded = new WeakMap();
const load = async (box) => {
  if (loaded.has(box)) return loaded.get(box);
  const asked = fetch(`${box.parentElement.querySelector("a[data-moments]").href}.json`).then((answer) => answer.json()).catch(() => null);
  loaded.set(box, asked);
  const found = await asked;
  const range = box.querySelector("input");
  if (found?.moments?.length) {
    const atEnd = range.value === range.max;
    range.max = found.moments.length - 1;
    if (atEnd) range.value = range.max;
  } else { range.disabled = true; box.querySelector("[data-at]").textContent = "not stored in whole"; }
  return found;
};
const told = (ns) => (ns < 1e9 ? `${Math.round(ns / 1e6)} ms` : `${(ns / 1e9).toFixed(2)} s`);
const at = async (box) => {
  const found = await load(box);
  if (!found?.moments?.length) return;
  const range = box.querySelector("input");
  const { moments } = found;
  const moment = moments[Math.min(range.value, moments.length - 1)];
  const said = box.querySelector("[data-said]");
  said.hidden = false;
  // the server counts whole characters, the browser halves of some
  const cut = (text, length) => [...text].slice(0, length).join("");
  const thoughts = cut(found.reasoning, moment.reasoning);
  said.textContent = (thoughts && !moment.text ? `(thinking) ${thoughts}` : cut(found.text, moment.text)) || "(nothing yet)";
  box.querySelector("[data-at]").textContent = `${told(moment.time_ns)}, ${moment.size.toLocaleString()} bytes`;
  range.setAttribute("aria-valuetext", box.querySelector("[data-at]").textContent);
  const first = moments[0].time_ns, last = moments[moments.length - 1].time_ns;
  const x = last > first ? ((moment.time_ns - first) / (last - first)) * 1000 : 0;
  box.closest(".body")?.querySelector("[data-hand]")?.setAttribute("d", `M${x} 0V14`);
};
for (const kind of ["input", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const box = event.target.closest?.("[data-scrub]");
    if (box && event.target.matches("input")) at(box);
  });
}

// JSON as a tree: fetched once there is some to be seen
const plant = async (place) => {
  const trees = document.querySelector("[data-trees]")?.dataset.trees;
  if (trees && [...place.querySelectorAll("pre[data-json]")].some((pre) => pre.textContent.length >= 240 && !pre.closest("details:not([open])"))) await import(new URL(trees, import.meta.url).href);
};
plant(document);
document.addEventListener("toggle", (event) => { if (event.target.open) plant(event.target); }, true);
document.addEventListener("llmobs:shown", (event) => plant(event.detail));
