// Charts: local times below them, values under the pointer, and a range of time by dragging. Without it the table tells.
const NS = 1_000_000n;
const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const day = { month: "short", day: "numeric" };
const written = (date, form) => date.toLocaleString(undefined, form);
const svg = (name, values) => {
  const made = document.createElementNS(document.querySelector("svg").namespaceURI, name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  return made;
};

for (const text of document.querySelectorAll("text[data-ns]")) {
  const date = new Date(Number(BigInt(text.dataset.ns) / NS));
  // days are days of UTC, as they are counted; hours and minutes are the reader's
  if (text.dataset.form === "day") text.textContent = written(date, { ...day, timeZone: "UTC" });
  else if (text.textContent.includes(":")) text.textContent = written(date, clock);
  else text.textContent = written(date, date.getHours() || date.getMinutes() ? { ...day, ...clock } : day);
}

for (const group of document.querySelectorAll("[data-charts]")) {
  const since = BigInt(group.dataset.since), step = BigInt(group.dataset.step), steps = Number(group.dataset.steps);
  const table = document.querySelector("[data-values]");
  const rows = [...(table?.tBodies[0].rows ?? [])];
  const labels = [...(table?.tHead.rows[1].cells ?? [])].map((cell) => cell.textContent);
  const moment = (place) => since + step * BigInt(place);
  const date = (place) => new Date(Number(moment(place) / NS));
  const whole = step >= 86_400_000_000_000n;
  const span = (from, to) => {
    if (whole) return written(date(from), { ...day, timeZone: "UTC" }) + (to - from > 1 ? ` – ${written(date(to - 1), { ...day, timeZone: "UTC" })}` : "");
    const same = date(from).toDateString() === date(to).toDateString();
    return `${written(date(from), { ...day, ...clock })} – ${written(date(to), same ? clock : { ...day, ...clock })}`;
  };
  const charts = [...group.querySelectorAll("[data-chart]")].filter((chart) => chart.querySelector(".area"));
  const marks = charts.map((chart) => {
    const mark = svg("rect", { class: "cursor", y: 6, height: 120, visibility: "hidden" });
    chart.querySelector(".area").append(mark);
    return mark;
  });
  let from = null;

  const show = (first, last) => {
    const low = Math.min(first, last), high = Math.max(first, last) + 1;
    charts.forEach((chart, number) => {
      marks[number].setAttribute("x", `${(low / steps) * 100}%`);
      marks[number].setAttribute("width", `${((high - low) / steps) * 100}%`);
      marks[number].setAttribute("visibility", "visible");
      const begin = Number(chart.dataset.first) + 1, count = Number(chart.dataset.lines);
      const parts = [span(low, high)];
      if (high - low === 1) {
        for (let place = begin; place < begin + count; place++) {
          parts.push((count > 1 ? `${labels[place]} ` : "") + rows[low].cells[place].textContent);
        }
      }
      chart.querySelector(".readout").textContent = parts.join("  ·  ");
      chart.classList.add("pointed");
    });
  };
  const hide = () => {
    for (const mark of marks) mark.setAttribute("visibility", "hidden");
    for (const chart of charts) chart.classList.remove("pointed");
  };
  const go = (first, last) => {
    const address = new URL(group.dataset.at || "./", location.href);
    address.searchParams.set("since", new Date(Number(moment(Math.min(first, last)) / NS)).toISOString().replace(".000", ""));
    address.searchParams.set("until", new Date(Number(moment(Math.max(first, last) + 1) / NS)).toISOString().replace(".000", ""));
    location.assign(address);
  };
  for (const chart of charts) {
    const area = chart.querySelector(".area");
    const place = (event) => {
      const box = area.getBoundingClientRect();
      return Math.max(0, Math.min(steps - 1, Math.floor(((event.clientX - box.left) / box.width) * steps)));
    };
    area.addEventListener("pointermove", (event) => show(from ?? place(event), place(event)));
    area.addEventListener("pointerleave", () => { if (from === null) hide(); });
    area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;  // a finger scrolls
      from = place(event);
      area.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    area.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const first = from, last = place(event);
      from = null;
      if (first !== last) go(first, last); else rows[last]?.querySelector("a")?.click();
    });
    area.addEventListener("pointercancel", () => { from = null; hide(); });
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape" && from !== null) { from = null; hide(); } });
}

for (const field of document.querySelectorAll("select[data-submit]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}
