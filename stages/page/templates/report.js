// Columns of every table of class `sortable` sort when their heading is pressed: first upwards, then downwards.
// Numbers sort by the first number of the cell, anything else as text; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) continue;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => ({ row, key: key(row.cells[column]) }));
      rows.sort((a, b) => compare(a.key, b.key, up));
      body.append(...rows.map(({ row }) => row));
    });
  });
}

function key(cell) {
  const text = (cell?.textContent ?? "").trim().replace(/^\[/, "").replace("−", "-").replace(/(\d),(?=\d{3})/g, "$1");
  if (text === "" || text === "–" || text === "-") return null;
  const number = text.match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return number ? Number(number[0]) : text;
}

function compare(a, b, up) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return up ? order : -order;
}
