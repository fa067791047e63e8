"use strict";
(() => {
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  let rows = [...body.rows];
  const texts = new Map();
  const text = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const find = document.getElementById("find");
  const precision = document.getElementById("precision");
  const all = document.getElementById("all");
  const count = document.getElementById("count");
  const few = Number(table.dataset.few);
  let short = rows.length > few;

  const value = (row, column, kind) => {
    const given = row.cells[column].dataset.v;
    return kind === "number" ? Number(given) : (given ?? row.cells[column].textContent).toLowerCase();
  };

  const show = () => {
    const wanted = find.value.trim().toLowerCase();
    let fitting = 0;
    for (const row of rows) {
      const fits = (!wanted || text(row).includes(wanted)) && (!precision.value || row.dataset.p === precision.value);
      fitting += fits;
      row.hidden = !fits || (short && fitting > few);
    }
    const shown = short ? Math.min(fitting, few) : fitting;
    count.textContent = `${shown} of ${fitting === rows.length ? "" : `${fitting} that fit, of `}${rows.length} layers`;
  };

  const unfold = (open) => {
    short = !open;
    all.setAttribute("aria-expanded", String(open));
    all.textContent = open ? "Show few" : `Show all ${rows.length}`;
    show();
  };

  const sort = (head) => {
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.indexOf(head);
    const kind = head.dataset.sort;
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : kind === "number";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [value(row, column, kind), row]);
    keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
    rows = keyed.map(([, row]) => row);
    body.append(...rows);
    show();
  };

  for (const head of table.tHead.rows[0].cells) {
    const label = head.querySelector("span");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...label.childNodes);
    label.replaceWith(button);
    button.addEventListener("click", () => sort(head));
  }
  find.addEventListener("input", show);
  precision.addEventListener("change", show);
  all.addEventListener("click", () => unfold(short));

  const target = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (!row || row.parentElement !== body) return;
    find.value = precision.value = "";
    unfold(true);
    row.tabIndex = -1;
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  };
  window.addEventListener("hashchange", target);
  document.querySelector(".controls").hidden = false;
  all.hidden = rows.length <= few;
  unfold(!short);
  target();
})();
