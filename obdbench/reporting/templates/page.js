"use strict";

// Filter: what carries a data-source is shown while the box of that source is ticked.
const boxes = [...document.querySelectorAll(".bar input")];
function filter() {
  const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  for (const part of document.querySelectorAll("[data-source]")) {
    part.hidden = part.dataset.source !== "" && !shown.has(part.dataset.source);
  }
}
for (const box of boxes) box.addEventListener("change", filter);
filter();

// Sorting: numbers by their full value, words alphabetically; what is missing stays last.
function compare(a, b, way) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x !== undefined && y !== undefined) return way * (Number(x) - Number(y));
  if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1;
  return way * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = head.closest("table");
    const words = head.classList.contains("word");
    const rising = head.ariaSort ? head.ariaSort !== "ascending" : words;
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.sort((p, q) => compare(p.cells[head.cellIndex], q.cells[head.cellIndex], rising ? 1 : -1));
    body.append(...rows);
  });
}
document.body.dataset.ready = "true";
