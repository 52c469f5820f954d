// Without this script everything can be read: it adds sorting, filters and the way back.
(function () {
  "use strict";
  // A region that scrolls gets a tab stop and a name; others need none.
  const regions = document.querySelectorAll(".scroll");
  function mark() {
    // All are measured before any is changed, so that the page is laid out once; what is folded is
    // measured when it is opened.
    const shown = [...regions].filter((region) => !region.closest("details:not([open])"));
    const scrolling = new Set(shown.filter((region) => region.scrollWidth > region.clientWidth + 1));
    for (const region of shown) {
      if (scrolling.has(region)) {
        region.tabIndex = 0;
        region.setAttribute("role", "region");
        region.setAttribute("aria-label", region.dataset.label);
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) region.removeAttribute(name);
      }
    }
  }
  new ResizeObserver(mark).observe(document.body);
  for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", mark);

  // Evidence: Escape or Close leads back to the number that opened it.
  const openers = [];
  const isOpen = () => location.hash.startsWith("#evidence-");
  function close(event) {
    if (!isOpen() || !openers.length) return;
    event.preventDefault();
    const opener = openers.pop();
    addEventListener("hashchange", () => opener.focus({ preventScroll: true }), { once: true });
    history.back();
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.classList.contains("close")) close(event);
    else if (link && link.hash.startsWith("#evidence-") && link.hash !== location.hash) openers.push(link);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(event); });
  addEventListener("hashchange", () => { if (isOpen()) document.querySelector(":target").focus({ preventScroll: true }); });

  // Sorting: a button in each heading; numbers by value, words by the alphabet, unknown last.
  const value = (cell) => cell.dataset.value ?? cell.textContent.trim();
  function compare(first, second) {
    const unknown = [first, second].map((text) => text === "–" || text === "");
    if (unknown[0] || unknown[1]) return { order: unknown[0] - unknown[1], fixed: true };
    const numbers = [Number(first), Number(second)];
    const order = numbers.some(Number.isNaN) ? first.localeCompare(second, "en", { numeric: true }) : numbers[0] - numbers[1];
    return { order, fixed: false };
  }
  function sort(table, column, falling) {
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [value(row.cells[column]), row]);
    keyed.sort(([first], [second]) => {
      const { order, fixed } = compare(first, second);
      return fixed || !falling ? order : -order;
    });
    body.append(...keyed.map(([, row]) => row));
  }
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows].at(-1).cells;
    [...heads].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        sort(table, column, falling);
      });
    });
    addFilter(table);
  }

  // Filter: rows that hold every word that is typed.
  function addFilter(table) {
    const rows = [...table.tBodies[0].rows];
    const label = document.createElement("label");
    const field = document.createElement("input");
    const count = document.createElement("output");
    const say = (shown) => { count.textContent = shown + " of " + rows.length + " rows"; };
    field.type = "search";
    label.append("Filter rows: ", field);
    count.setAttribute("role", "status");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      say(rows.filter((row) => !row.hidden).length);
    });
    say(rows.length);
    const bar = document.createElement("p");
    bar.className = "filter";
    bar.append(label, " ", count);
    table.closest(".scroll").before(bar);
  }

  // In print every part is open.
  addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
})();
