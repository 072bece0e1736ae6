"use strict";
// Tables that sort, filter and search. Many columns come in groups; one group is shown at a time.
{
  const data = Report.data, rows = data.rows, STEP = 100;
  const number = (name, title, unit, digits, group) => ({
    name, title, unit, group, numeric: true, value: (i) => rows[name][i], cell: (i) => Report.number(rows[name][i], digits),
  });
  const words = (name, title, group, shape) => ({
    name, title, unit: "", group, value: (i) => rows[name][i] || "", cell: (i) => (rows[name][i] ? (shape || String)(rows[name][i]) : ""),
  });

  const COLUMNS = [
    { name: "formula", title: "Formula", unit: "", value: (i) => rows.formula[i], cell: (i) => Report.make("button", { type: "button", class: "link", onclick: () => Report.select(i, "table") }, Report.formula(rows.formula[i])) },
    number("next", "Next", "", 0), number("ef", "Formation", "meV/atom", 1, "energies"), number("above", "Above hull", "meV/atom", 2),
    number("depth", "Depth", "meV/atom", 2, "energies"), number("p_stable", "P(stable)", "", 2, "energies"),
    words("verdict", "Verdict", "energies"), words("kind", "Source", "energies"), words("lattice", "Lattice", "energies"),
    words("space_group", "Space group", "energies crystal", Report.spaceGroup), words("prototype", "Prototype", "energies crystal", Report.prototype),
    number("grade", "Grade", "", 2, "energies"), number("error", "Predicted − true", "meV/atom", 2, "energies"),
    words("aflow", "AFLOW label", "crystal"), words("pearson", "Pearson", "crystal"), number("atoms", "Atoms", "", 0, "crystal"),
    ...["a", "b", "c"].map((name) => number(name, name, "Å", 3, "cell")),
    ...[["alpha", "α"], ["beta", "β"], ["gamma", "γ"]].map(([name, title]) => number(name, title, "°", 1, "cell")),
    number("volume", "Volume", "Å³/atom", 2, "cell"), number("displacement", "Moved by", "Å", 3, "cell"),
    { ...number("strain", "Strain", "%", 2, "cell"), cell: (i) => Report.number(rows.strain[i] == null ? null : 100 * rows.strain[i], 2) },
    number("moment", "Moment", "µB/atom", 2, "cell"), number("largest_moment", "Largest moment", "µB", 2, "cell"),
    words("decomposition", "Decomposition", "phases"), number("energy", "Energy", "eV/atom", 4, "phases"), words("key", "Key", "phases"),
    ...data.elements.map((element, k) => ({ name: `x_${element.symbol}`, title: element.symbol, unit: "fraction", group: "composition", numeric: true, value: (i) => rows.x[i][k], cell: (i) => Report.number(rows.x[i][k], 4) })),
  ];
  const GROUPS = [["energies", "Energies"], ["crystal", "Crystal"], ["cell", "Cell"], ["phases", "Decomposition"], ["composition", "Composition"], ["all", "All columns"]];

  // Columns that hold anything in the given rows.
  const useful = (members) => COLUMNS.filter((column) => column.name.startsWith("x_") ? members.length && rows.x && column.value(members[0]) !== undefined
    : rows[column.name] && members.some((i) => rows[column.name][i] != null && rows[column.name][i] !== ""));

  // Everything of a row that a search may mean.
  const haystack = (i) => ["formula", "space_group", "prototype", "aflow", "pearson", "verdict", "kind", "key", "decomposition", "lattice"]
    .map((name) => (rows[name] && rows[name][i]) || "").join(" ").toLowerCase();

  // Missing values come last, whichever way the column is sorted.
  function compare(column, down) {
    return (i, j) => {
      const [a, b] = [column.value(i), column.value(j)];
      if (a == null || a === "") return b == null || b === "" ? 0 : 1;
      if (b == null || b === "") return -1;
      const order = column.numeric ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      return down ? -order : order;
    };
  }

  // One table: `members` are row numbers, `filters` pairs of text and test.
  Report.table = function (place, members, { filters = [], sort = null, name = "table", total = members.length } = {}) {
    const columns = useful(members), state = { sort, down: false, query: "", filter: 0, group: "energies", most: STEP };
    const table = Report.make("table", { class: "sortable" }), note = Report.make("p", { class: "quiet small", role: "status" });
    const more = Report.make("button", { type: "button", class: "more", onclick: () => { state.most = Infinity; fill(); } });

    const shown = () => columns.filter((column) => state.group === "all" || !column.group || column.group.split(" ").includes(state.group));
    function found() {
      const wanted = state.query.toLowerCase().split(/\s+/).filter(Boolean);
      const test = filters.length ? filters[state.filter][1] : () => true;
      const kept = members.filter((i) => test(i) && wanted.every((word) => haystack(i).includes(word)));
      const column = columns.find((other) => other.name === state.sort);
      return column ? kept.sort(compare(column, state.down)) : kept;
    }
    function sortBy(column) {
      state.down = state.sort === column.name ? !state.down : false;
      state.sort = column.name;
      fill();
    }
    function header(column) {
      const sorted = state.sort === column.name ? (state.down ? "descending" : "ascending") : "none";
      return Report.make("th", { class: column.numeric ? "number" : null, "aria-sort": sorted, scope: "col" },
        Report.make("button", { type: "button", onclick: () => sortBy(column) }, Report.make("span", null, column.title), column.unit ? Report.make("small", null, column.unit) : null));
    }
    function fill() {
      const list = found(), visible = shown();
      const body = Report.make("tbody", null, ...list.slice(0, state.most).map((i) =>
        Report.make("tr", { "data-row": i, class: i === Report.selected ? "selected" : null },
          ...visible.map((column) => Report.make("td", { class: column.numeric ? "number" : null }, column.cell(i))))));
      table.replaceChildren(Report.make("thead", null, Report.make("tr", null, ...visible.map(header))), body);
      note.textContent = `${list.length.toLocaleString("en")} of ${total.toLocaleString("en")} structures`
        + (total > members.length ? `; all are in candidates.parquet, ${members.length.toLocaleString("en")} of them here.` : "");
      more.hidden = list.length <= state.most;
      more.textContent = `Show all ${list.length.toLocaleString("en")}`;
    }
    // The table as it stands, for a spreadsheet.
    function csv() {
      const quote = (value) => (value == null ? "" : /[",\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : String(value));
      const lines = found().map((i) => columns.map((column) => quote(column.value(i))).join(","));
      Report.save(`${name}.csv`, [columns.map((column) => quote(column.name)).join(","), ...lines].join("\n") + "\n", "text/csv");
    }

    const search = Report.make("input", { type: "search", placeholder: "Search: formula, group, prototype …", "aria-label": "Search in the table", oninput: () => { state.query = search.value; fill(); } });
    const tools = Report.make("div", { class: "controls" }, search);
    if (filters.length) tools.append(Report.choice("show", filters.map(([text], k) => [k, text]), 0, (value) => { state.filter = Number(value); fill(); }));
    const groups = GROUPS.filter(([group]) => group === "all" || columns.some((column) => (column.group || "").split(" ").includes(group)));
    tools.append(Report.choice("columns", groups, state.group, (value) => { state.group = value; fill(); }),
      Report.make("button", { type: "button", onclick: csv }, "Download CSV"));
    table.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-row]");
      if (row && event.target.tagName !== "BUTTON" && !event.target.closest("button")) Report.select(Number(row.dataset.row), "table");
    });
    Report.listeners.push((i) => table.querySelectorAll("tr[data-row]").forEach((row) => row.classList.toggle("selected", Number(row.dataset.row) === i)));
    fill();
    place.replaceChildren(tools, Report.make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of structures" }, table), more, note);
  };

  Report.tables = function () {
    const all = [...Array(rows.formula.length).keys()];
    const place = (name, members, options) => {
      const element = Report.place(name);
      if (element && members.length) Report.table(element, members, { name, ...options });
    };
    place("structures", all, {
      total: Math.max(data.counts.candidates, all.length),
      filters: [
        ["stable and near the hull", (i) => rows.inHull[i]], ["stable", (i) => rows.stable[i]],
        ["computed", (i) => rows.kind[i] !== "predicted"], ["all", () => true],
      ],
    });
    place("open", all.filter((i) => rows.open[i]), { sort: "above", total: data.counts.open });
    if (rows.next) place("next", all.filter((i) => rows.next[i]), { sort: "next" });
  };
}
