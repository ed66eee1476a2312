for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const key = (row) => row.cells[head.cellIndex].dataset.key;
  const number = (text) => text !== "" && !isNaN(text);
  const order = (a, b) => number(a) && number(b) ? a - b : a.localeCompare(b);
  const rows = [...body.rows].sort((a, b) => order(key(a), key(b)));
  for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...(up ? rows : rows.reverse()));
};
