"use strict";
// The diagram: a curve, a triangle, a tetrahedron, or a polygon of the end members that are chosen.
{
  const data = Report.data, rows = data.rows, thin = data.thin;
  const n = rows.formula.length;
  const EDGE = 1e-6; // fractions below this are zero
  const SOURCES = {
    computed: ["circle", "computed"], predicted: ["diamond-open", "predicted"],
    "own data": ["square", "own"], competing: ["cross", "competing"],
  };
  const state = { members: (data.ends || []).map((_, i) => i), element: 0, limit: null };
  let holder;

  const inside = (y) => y && y.every((v, i) => v < EDGE || state.members.includes(i));
  const near = (above) => state.limit == null || above <= state.limit;

  // What the pointer tells of a row: text only.
  function hoverText(i) {
    const unit = data.unit && data.unit !== "atom" ? ` (${Report.number(rows.e[i], 1)} meV per ${Report.plain(Report.lowered(data.unit))})` : "";
    const lines = [
      `<b>${Report.plain(Report.lowered(rows.formula[i]))}</b>`,
      `formation energy ${Report.number(rows.ef[i], 1)} meV/atom${unit}`,
      `above hull ${Report.number(rows.above[i], 2)} meV/atom`,
    ];
    const names = [];
    if (rows.prototype && rows.prototype[i]) {
      const [, letter, index] = Report.prototypeParts(rows.prototype[i]).map(Report.plain);
      names.push(index ? `${letter}<sub>${index}</sub>` : letter);
    }
    if (rows.space_group && rows.space_group[i]) names.push(Report.plain(Report.spaceGroup(rows.space_group[i])));
    if (names.length) lines.push(names.join(", "));
    if (rows.lattice && rows.lattice[i]) lines.push(`lattice ${Report.plain(rows.lattice[i])}`);
    lines.push(Report.plain(rows.kind[i]) + (rows.stable[i] ? ", stable" : ""));
    return lines.join("<br>");
  }

  // Points of the present view: of the full rows (with their numbers) and of the sample.
  function points() {
    const found = [];
    for (let i = 0; i < n; i++) {
      if (data.ends && !inside(rows.y[i])) continue;
      if (!rows.stable[i] && !near(rows.above[i])) continue;
      found.push({ i, y: rows.y[i], e: rows.e[i] ?? rows.ef[i], above: rows.above[i], kind: rows.kind[i], stable: rows.stable[i] });
    }
    for (let j = 0; j < (thin.formula || []).length; j++) {
      if (data.ends && !inside(thin.y[j])) continue;
      if (!near(thin.above[j])) continue;
      found.push({ i: -1, j, y: thin.y[j], e: thin.e[j] ?? thin.ef[j], above: thin.above[j], kind: thin.kind[j], stable: false });
    }
    return found;
  }

  // The lowest point at each composition: what a diagram without an energy axis can show.
  function lowest(all) {
    const best = new Map();
    for (const p of all) {
      const key = p.y.map((v) => Math.round(v * 1e4)).join();
      const old = best.get(key);
      if (!old || (p.stable && !old.stable) || (p.stable === old.stable && p.above < old.above)) best.set(key, p);
    }
    return [...best.values()];
  }

  const text = (p) => (p.i >= 0 ? hoverText(p.i)
    : `<b>${Report.plain(Report.lowered(thin.formula[p.j]))}</b><br>above hull ${Report.number(p.above, 1)} meV/atom<br>${p.kind}`);

  // Groups of points by where they come from, the stable ones last and on top.
  function groups(all) {
    const found = [];
    for (const kind of ["predicted", "computed", "own data", "competing"]) {
      const members = all.filter((p) => p.kind === kind && !p.stable);
      if (members.length) found.push([kind, members, SOURCES[kind]]);
    }
    return found;
  }

  const stableOf = (all) => all.filter((p) => p.stable);

  // Stable compounds that are named: those that gain most, if there are too many.
  function named(stable, most) {
    const inner = stable.filter((p) => p.y.filter((v) => v > EDGE).length > 1);
    const weight = (p) => (rows.depth && rows.depth[p.i]) ?? 0;
    return new Set(inner.sort((a, b) => weight(b) - weight(a)).slice(0, most));
  }

  function trace(name, members, at, marker, more) {
    return {
      type: "scatter", mode: "markers", name, x: members.map((p) => at(p)[0]), y: members.map((p) => at(p)[1]),
      text: members.map(text), customdata: members.map((p) => p.i), hoverinfo: "text", marker, cliponaxis: false, ...more,
    };
  }

  const scale = () => {
    const positive = points().map((p) => p.above).filter((v) => v > 0).sort((a, b) => a - b);
    const usual = positive.length ? positive[Math.floor(positive.length / 2)] : 1;
    return Math.min(Math.max(usual, 1), 100);
  };

  const bar = (c) => ({
    title: { text: "above hull (meV/atom)", side: Report.narrow() ? "top" : "right" }, thickness: 10, outlinewidth: 0,
    ...(Report.narrow() ? { orientation: "h", y: -0.02, yanchor: "top", len: 0.8 } : { len: 0.6, x: 1.0 }), tickcolor: c.quiet,
  });

  // Colours by height above the hull: cividis, which all kinds of eyes read alike.
  const heights = (members, c, top, first) => ({
    color: members.map((p) => Math.max(p.above, 0)), colorscale: "Cividis", cmin: 0, cmax: top,
    showscale: first, colorbar: first ? bar(c) : undefined,
  });

  const stableMarker = (c, size) => ({ symbol: "circle", size, color: c.stable, line: { color: c.ground, width: 1.5 } });

  const legend = { showlegend: true, legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0, font: { size: 12 }, itemsizing: "constant" } };

  // Energy over composition of two end members.
  function curve() {
    const c = Report.colours(), [first, second] = state.members, all = points();
    const at = (p) => [p.y[second], p.e];
    const traces = groups(all).map(([kind, members, [symbol, colour]]) =>
      trace(kind, members, at, { symbol, size: kind === "predicted" ? 5 : 7, color: c[colour], opacity: kind === "predicted" ? 0.7 : 0.9 }));
    const stable = stableOf(all).sort((a, b) => a.y[second] - b.y[second]);
    const labelled = named(stable, Report.narrow() ? 8 : 16);
    traces.push(trace("stable", stable, at, stableMarker(c, 10), {
      mode: "lines+markers", line: { color: c.ink, width: 1.5 }, hoverlabel: { bordercolor: c.stable },
    }));
    const [low, high] = range(all, stable);
    const deepest = stable.reduce((best, p) => (p.e < best.e ? p : best), stable[0]);
    state.cut = all.filter((p) => p.e > high).length;
    const whole = data.ends.length === 2;
    return [traces, {
      ...legend,
      xaxis: {
        title: { text: whole ? data.axis : `fraction of ${Report.plain(Report.lowered(data.ends[second]))}` }, range: [-0.03, 1.03],
        tickvals: [0, 0.25, 0.5, 0.75, 1],
        ticktext: [Report.plain(Report.lowered(data.ends[first])), "0.25", "0.5", "0.75", Report.plain(Report.lowered(data.ends[second]))],
      },
      yaxis: { title: { text: energyTitle() }, range: [low - (labelled.size ? 0.1 : 0.02) * (high - low), high] },
      annotations: stable.filter((p) => labelled.has(p)).map((p) => below(p, p.y[second], deepest.y[second], labelled.size > 6)),
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: c.quiet, width: 1, dash: "dot" }, layer: "below" }],
    }];
  }

  // The name of a stable compound, below the hull and pointing away from it.
  function below(p, x, middle, slanted) {
    const left = { xanchor: "right", textangle: -60, xshift: 4 }, right = { xanchor: "left", textangle: 60, xshift: -4 };
    return {
      x, y: p.e, text: Report.plain(Report.lowered(rows.formula[p.i])), showarrow: false, yanchor: "top", yshift: -8, font: { size: 12 },
      ...(slanted ? (x <= middle ? left : right) : {}),
    };
  }

  const energyTitle = () =>
    `formation energy (${!data.unit || data.unit === "atom" ? "meV/atom" : `meV per ${Report.plain(Report.lowered(data.unit))}`})`;

  // Energies that show the hull well; the worst candidates may lie outside.
  function range(all, stable) {
    const depth = Math.max(0, ...stable.map((p) => -p.e), ...all.map((p) => -p.e));
    const top = Math.max(0, ...all.map((p) => p.e));
    if (depth > 0.1) return [-1.08 * depth, Math.min(Math.max(1.05 * top, 0.06 * depth), 0.6 * depth)];
    const sorted = all.map((p) => p.e).sort((a, b) => a - b);
    const usual = Math.max(sorted.length ? sorted[Math.floor(0.9 * sorted.length)] : 1, 1);
    return [-0.08 * usual, 1.1 * usual];
  }

  // Corners of a regular polygon, the first at the lower left.
  const corners = (k) => (k === 3 ? [[0, 0], [1, 0], [0.5, Math.sqrt(3) / 2]]
    : [...Array(k).keys()].map((i) => [Math.sin(2 * Math.PI * (i - 0.5) / k) * -1, -Math.cos(2 * Math.PI * (i - 0.5) / k)]));

  const mixed = (p, ends) => ends[0].map((_, axis) => state.members.reduce((sum, m, k) => sum + p.y[m] * ends[k][axis], 0));

  // Lines between phases in equilibrium that lie in the view, with gaps between them.
  function tieLines(ends) {
    const found = ends[0].map(() => []);
    for (const [a, b] of data.tieLines) {
      if (!inside(data.corners[a]) || !inside(data.corners[b])) continue;
      for (const end of [a, b]) mixed({ y: data.corners[end] }, ends).forEach((v, axis) => found[axis].push(v));
      found.forEach((axis) => axis.push(null));
    }
    return found;
  }

  // Compositions of three end members, or of five and more in a polygon.
  function plane() {
    const c = Report.colours(), k = state.members.length, ends = corners(k), all = lowest(points());
    const at = (p) => mixed(p, ends);
    const top = scale(), traces = [frame(ends, c)];
    const [x, y] = tieLines(ends);
    if (k === 3) traces.push({ type: "scatter", mode: "lines", x, y, line: { color: c.quiet, width: 1.3 }, hoverinfo: "skip", showlegend: false });
    const small = Report.narrow() ? 0.7 : 1;
    groups(all).forEach(([kind, members, [symbol]], first) => traces.push(trace(kind, members, at, {
      symbol: symbol.replace("-open", ""), size: small * (kind === "predicted" ? 7 : 9), line: { color: c.quiet, width: 0.5 }, ...heights(members, c, top, first === 0),
    }, { legendgroup: kind })));
    const stable = stableOf(all), labelled = named(stable, Report.narrow() ? 8 : 16);
    traces.push(trace("stable", stable, at, stableMarker(c, 12 * small), {
      mode: "markers+text", textposition: stable.map((p) => outward(p, k)), textfont: { size: 12, color: c.ink }, hovertext: stable.map(text),
      text: stable.map((p) => (labelled.has(p) ? Report.lowered(rows.formula[p.i]) : "")).map(Report.plain),
    }));
    const room = { visible: false, fixedrange: false };
    const legendRoom = Report.narrow() ? 1.06 : 1.02;
    return [traces, {
      ...legend, legend: { ...legend.legend, y: legendRoom },
      xaxis: { ...room, range: k === 3 ? (Report.narrow() ? [-0.06, 1.06] : [-0.1, 1.1]) : [-1.3, 1.3] }, yaxis: { ...room, scaleanchor: "x", range: k === 3 ? [-0.1, 1.0] : [-1.25, 1.25] },
      annotations: ends.map(([u, v], i) => ({
        x: u, y: v, text: `<b>${Report.plain(Report.lowered(data.ends[state.members[i]]))}</b>`, showarrow: false, font: { size: 15 },
        ...(k === 3 ? [{ xshift: -10, yshift: -14 }, { xshift: 10, yshift: -14 }, { yshift: 16 }][i] : { xshift: 18 * u, yshift: 18 * v }),
      })),
    }];
  }

  // Where the name of a point stands: outside of the triangle's edges, above what lies inside.
  function outward(p, k) {
    if (k !== 3) return "top center";
    const zero = state.members.findIndex((m) => p.y[m] < EDGE);
    return ["middle right", "middle left", "bottom center"][zero] || "top center";
  }

  // The outline, and lines every 25 % in a triangle.
  function frame(ends, c) {
    const x = [], y = [];
    const line = (a, b) => { x.push(a[0], b[0], null); y.push(a[1], b[1], null); };
    const between = (a, b, t) => [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])];
    ends.forEach((a, i) => line(a, ends[(i + 1) % ends.length]));
    if (ends.length === 3) {
      for (const t of [0.25, 0.5, 0.75]) {
        ends.forEach((a, i) => line(between(a, ends[(i + 1) % 3], t), between(a, ends[(i + 2) % 3], t)));
      }
    }
    return { type: "scatter", mode: "lines", x, y, line: { color: c.rule, width: 1.2 }, hoverinfo: "skip", showlegend: false };
  }

  // Compositions of four end members; it turns.
  function solid() {
    const c = Report.colours(), h = Math.sqrt(3) / 2;
    const ends = [[0, 0, 0], [1, 0, 0], [0.5, h, 0], [0.5, h / 3, Math.sqrt(2 / 3)]];
    const all = lowest(points()), top = scale();
    const cloud = (name, members, marker, more) => {
      const at = members.map((p) => mixed(p, ends));
      return { type: "scatter3d", mode: "markers", name, x: at.map((v) => v[0]), y: at.map((v) => v[1]), z: at.map((v) => v[2]),
        text: members.map(text), customdata: members.map((p) => p.i), hoverinfo: "text", marker, ...more };
    };
    const edges = [[], [], []];
    for (let a = 0; a < 4; a++) for (let b = 0; b < a; b++) [ends[a], ends[b], [null, null, null]].forEach((v) => v.forEach((w, axis) => edges[axis].push(w)));
    const wire = (xyz, colour, width) => ({ type: "scatter3d", mode: "lines", x: xyz[0], y: xyz[1], z: xyz[2], line: { color: colour, width }, hoverinfo: "skip", showlegend: false });
    const traces = [wire(edges, c.quiet, 3), wire(tieLines(ends), c.predicted, 1.5)];
    groups(all).forEach(([kind, members, [symbol]], first) => traces.push(cloud(kind, members, {
      symbol: symbol.replace("-open", ""), size: 4, line: { color: c.quiet, width: 0.5 }, ...heights(members, c, top, first === 0),
    })));
    const stable = stableOf(all), labelled = named(stable, Report.narrow() ? 6 : 12);
    traces.push(cloud("stable", stable, stableMarker(c, 6), {
      mode: "markers+text", textposition: "top center", textfont: { size: 12, color: c.ink }, hovertext: stable.map(text),
      text: stable.map((p) => (labelled.has(p) ? Report.plain(Report.lowered(rows.formula[p.i])) : "")),
    }));
    const hidden = { visible: false, showspikes: false };
    traces.push({
      type: "scatter3d", mode: "text", x: ends.map((v) => v[0]), y: ends.map((v) => v[1]), z: ends.map((v, i) => v[2] + (i === 3 ? 0.07 : -0.07)),
      text: state.members.map((m) => `<b>${Report.plain(Report.lowered(data.ends[m]))}</b>`), textfont: { size: 16, color: c.ink }, hoverinfo: "skip", showlegend: false,
    });
    return [traces, {
      ...legend,
      scene: { xaxis: hidden, yaxis: hidden, zaxis: hidden, aspectmode: "data", dragmode: "orbit", camera: { eye: { x: 0.62, y: -1.75, z: 0.6 }, center: { x: 0, y: 0, z: -0.06 } } },
    }];
  }

  // Where the end members are no simplex: energies over the fraction of one element.
  function profile() {
    const c = Report.colours(), all = points();
    const at = (p) => [p.i >= 0 ? rows.x[p.i][state.element] : null, p.e];
    const full = all.filter((p) => p.i >= 0);
    const traces = groups(full).map(([kind, members, [symbol, colour]]) => trace(kind, members, at, { symbol, size: 7, color: c[colour] }));
    traces.push(trace("stable", stableOf(full), at, stableMarker(c, 10)));
    return [traces, { ...legend, xaxis: { title: { text: `atomic fraction of ${data.elements[state.element].symbol}` } }, yaxis: { title: { text: energyTitle() } } }];
  }

  const CAPTIONS = {
    2: "Lines join phases in equilibrium.",
    3: "The lowest structure at each composition; lines join phases in equilibrium, grey lines are 25 % apart.",
    4: "The lowest structure at each composition. Drag to turn, scroll or pinch to zoom; lines join phases in equilibrium.",
    many: "The lowest structure at each composition, drawn at the mean of its end members' corners. Choose two, three or four of them for a diagram that can be read exactly.",
    none: "The end members span no simplex: energies over the fraction of one element.",
  };

  function view() {
    if (!data.ends) return [profile, CAPTIONS.none];
    const k = state.members.length;
    if (k === 2) return [curve, CAPTIONS[2]];
    if (k === 4) return [solid, CAPTIONS[4]];
    return [plane, k === 3 ? CAPTIONS[3] : CAPTIONS.many];
  }

  // Draw the present view; plotly keeps what is the same.
  function draw() {
    const [kind, caption] = view();
    state.cut = 0;
    const [traces, layout] = kind();
    if (holder.dataset.kind && holder.dataset.kind !== kind.name) Plotly.purge(holder);
    holder.dataset.kind = kind.name;
    holder.style.height = `${height(kind)}px`;
    Plotly.react(holder, traces, { ...Report.layout(layout), width: holder.clientWidth, height: height(kind) }, { ...Report.config, responsive: false, scrollZoom: kind === solid });
    if (!holder.dataset.listens || kind.name !== holder.dataset.listens) {
      holder.dataset.listens = kind.name;
      holder.removeAllListeners("plotly_click");
      holder.on("plotly_click", (event) => {
        const row = event.points[0].customdata;
        if (typeof row === "number" && row >= 0) Report.select(row, "hull");
      });
    }
    Report.place("hull-caption").textContent = `${caption} Formation energies are ${data.zero}.${cut()}${counts()}`;
    holder.setAttribute("aria-label", `Phase diagram of ${data.ends ? state.members.map((m) => data.ends[m]).join(", ") : "all elements"}; the table below has the same structures.`);
  }

  const cut = () => (state.cut ? ` ${state.cut.toLocaleString("en")} points lie higher; a double click shows them.` : "");

  function counts() {
    const { candidates, rows: full, thin: sample } = data.counts;
    const left = candidates - full;
    if (left <= 0) return "";
    if (sample >= left) return ` All ${candidates.toLocaleString("en")} candidates are here, the ${full.toLocaleString("en")} nearest to the hull in full.`;
    return ` ${full.toLocaleString("en")} of ${candidates.toLocaleString("en")} candidates are here in full, those nearest to the hull first; the other ${left.toLocaleString("en")} are shown by ${sample.toLocaleString("en")} of them.`;
  }

  const height = (kind) => {
    const width = holder.clientWidth || 600;
    // A narrow diagram has its scale of colours below.
    const ratio = kind === plane || kind === solid ? (Report.narrow() ? 1.25 : 0.92) : 0.7;
    return Math.round(Math.min(Math.max(width * ratio, 330), 620));
  };

  // One chip per end member; the diagram has those that are pressed.
  function chips() {
    const bar = Report.make("div", { class: "chips", role: "group", "aria-label": "end members in the diagram" });
    data.ends.forEach((name, m) => {
      const chip = Report.make("button", { type: "button", "aria-pressed": "true", onclick: () => toggle(m) }, Report.formula(name));
      bar.append(chip);
    });
    return bar;
  }

  function toggle(m) {
    const without = state.members.filter((other) => other !== m);
    if (without.length === state.members.length) state.members = [...state.members, m].sort((a, b) => a - b);
    else if (without.length >= 2) state.members = without;
    document.querySelectorAll("#hull-controls .chips button").forEach((chip, i) => chip.setAttribute("aria-pressed", state.members.includes(i)));
    draw();
  }

  function controls() {
    const bar = Report.place("hull-controls");
    if (data.ends && data.ends.length > 2) bar.append(chips());
    if (!data.ends) {
      bar.append(Report.choice("fraction of", data.elements.map((e, i) => [i, e.symbol]), 0, (value) => { state.element = Number(value); draw(); }));
    }
    const limits = [["", "all"], ["100", "up to 100 meV/atom"], ["50", "up to 50 meV/atom"], ["25", "up to 25 meV/atom"], ["10", "up to 10 meV/atom"], ["5", "up to 5 meV/atom"], ["0", "stable only"]];
    bar.append(Report.choice("show above hull", limits, state.limit == null ? "" : String(state.limit), (value) => { state.limit = value === "" ? null : Number(value); draw(); }));
  }

  Report.hull = function () {
    holder = Report.place("hull");
    if (!holder || n === 0) { document.querySelectorAll(".split").forEach((part) => part.remove()); return; }
    if (data.ends && data.ends.length > 3) state.limit = 25;
    controls();
    draw();
    Report.redraw.push(draw);
    let width = holder.clientWidth, timer;
    new ResizeObserver(() => {
      if (holder.clientWidth === width) return;
      width = holder.clientWidth;
      clearTimeout(timer);
      timer = setTimeout(draw, 100);
    }).observe(holder);
  };
  Report.redraw = [];
}
