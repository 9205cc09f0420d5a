"use strict";
// Sorting: headers become buttons; empty cells stay last.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.dataset.kind === "number";
    const key = row => numeric ? parseFloat(row.cells[column].dataset.v) : row.cells[column].textContent;
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort");
      const down = order ? order === "ascending" : numeric;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row, i) => [key(row), i, row]);
      rows.sort(([a, i], [b, j]) => {
        const none = x => numeric ? Number.isNaN(x) : x === "";
        if (none(a) || none(b)) return none(a) - none(b) || i - j;
        const by = numeric ? (a < b ? -1 : a > b ? 1 : 0) : a.localeCompare(b, undefined, {numeric: true});
        return (down ? -by : by) || i - j;
      });
      body.append(...rows.map(row => row[2]));
    });
  });
}
// Filtering: every word has to occur in the row.
for (const form of document.querySelectorAll("form.filter")) {
  const rows = [...document.getElementById(form.dataset.for).tBodies[0].rows];
  const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
  const search = form.querySelector("input"), choice = form.querySelector("select"), count = form.querySelector("output");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(words.every(word => texts.get(row).includes(word)) && (!choice || !choice.value || row.cells[1].textContent === choice.value));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  form.hidden = false;
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", apply);
  apply();
}
// Light, dark, or as the system has it.
{
  const button = document.getElementById("theme"), names = ["auto", "light", "dark"], root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("lowbit-theme"); } catch { return null; } };
  const set = name => {
    if (name === "auto") delete root.dataset.theme; else root.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    try { localStorage.setItem("lowbit-theme", name); } catch { /* a file without storage keeps it for this visit */ }
  };
  let now = names.includes(stored()) ? stored() : "auto";
  set(now);
  button.hidden = false;
  button.addEventListener("click", () => set(now = names[(names.indexOf(now) + 1) % 3]));
}
// Paper cannot unfold anything.
addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach(d => { d.open = true; d.dataset.closed = ""; }));
addEventListener("afterprint", () => document.querySelectorAll("details[data-closed]").forEach(d => { d.open = false; delete d.dataset.closed; }));
