// Tables: a click on a heading sorts, the field above them keeps rows with all its words. Without this they are plain.
const value = (row, place) => row.cells[place].textContent.trim();
const units = { k: 1e3, M: 1e6, G: 1e9 };
const figure = (text) => {
  const found = text.replaceAll(",", "").match(/^(-?[\d.]+)(?:([kMG])(?![A-Za-z]))?/);
  return found ? Number(found[1]) * (units[found[2]] ?? 1) : NaN;
};
const compare = (one, other) => {
  const [left, right] = [figure(one), figure(other)];
  if (Number.isNaN(left) && Number.isNaN(right)) return one.localeCompare(other);
  return Number.isNaN(left) ? 1 : Number.isNaN(right) ? -1 : left - right;
};
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sorted = [...body.rows].sort((one, other) => compare(value(one, place), value(other, place)));
      body.append(...(up ? sorted : sorted.reverse()));
    });
  });
}
const field = document.createElement("input");
Object.assign(field, { type: "search", placeholder: "rows with these words", ariaLabel: "Show rows with these words" });
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\s+/);
  for (const row of document.querySelectorAll("#tables ~ .wide tbody tr"))
    row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
});
document.getElementById("tables").after(field);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
