"use strict";
// One structure: what is known of it, its picture in 3D, its CIF file.
{
  const data = Report.data, rows = data.rows;
  // Okabe & Ito's colours, then others that differ in lightness: neighbours in the periodic table
  // get the same grey from the usual tables.
  const COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#999999", "#7A4FBF", "#8B5A2B"];
  let viewer = null, panel, picture, repeats = 1;

  const colour = (species) => COLOURS[species % COLOURS.length];

  // Cartesian coordinates of fractional ones; `cell` has nine numbers, row by row.
  const cartesian = (cell, [u, v, w]) => [0, 1, 2].map((axis) => u * cell[axis] + v * cell[3 + axis] + w * cell[6 + axis]);

  // Atoms of the cell and their images on its faces, repeated.
  function atomsOf(structure) {
    const found = [], cell = structure.cell, most = repeats + 1e-3;
    structure.species.forEach((species, i) => {
      const home = structure.positions.slice(3 * i, 3 * i + 3).map((v) => { const w = v - Math.floor(v); return w > 1 - 1e-3 ? w - 1 : w; });
      for (let a = 0; a <= repeats; a++) for (let b = 0; b <= repeats; b++) for (let c = 0; c <= repeats; c++) {
        const place = [home[0] + a, home[1] + b, home[2] + c];
        if (place.every((v) => v < most)) found.push({ species, place: cartesian(cell, place) });
      }
    });
    return found;
  }

  // Show a structure; the viewer is made when the first one is asked for.
  function draw(structure) {
    if (!picture.isConnected) return;
    if (!viewer) {
      try {
        viewer = $3Dmol.createViewer(picture, { backgroundAlpha: 0, backgroundColor: "white", antialias: true });
      } catch (error) { viewer = null; }
      if (!viewer) { picture.textContent = "This browser shows no 3D pictures (WebGL); the CIF file has the structure."; return; }
    }
    viewer.removeAllModels();
    viewer.removeAllShapes();
    const model = viewer.addModel();
    model.addAtoms(atomsOf(structure).map(({ species, place: [x, y, z] }) => ({ elem: data.elements[species].symbol, x, y, z, bonds: [], properties: { species } })));
    data.elements.forEach((element, species) => model.setStyle({ properties: { species } }, { sphere: { radius: 0.42 * element.radius, color: colour(species) } }));
    const ink = Report.colours().quiet;
    const corner = (i) => { const [x, y, z] = cartesian(structure.cell, [(i & 1) * repeats, ((i >> 1) & 1) * repeats, ((i >> 2) & 1) * repeats]); return { x, y, z }; };
    for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) {
      if (!(i & bit)) viewer.addCylinder({ start: corner(i), end: corner(i | bit), radius: 0.035, color: ink });
    }
    viewer.setBackgroundColor(0xffffff, 0);
    viewer.zoomTo();
    viewer.setView([...viewer.getView().slice(0, 4), -0.08, 0.26, 0.04, 0.96]);
    viewer.rotate(-90, "x"); viewer.rotate(-25, "y"); viewer.rotate(12, "x");
    viewer.zoomTo();
    viewer.zoom(0.95);
    viewer.render();
  }

  // Facts of a row as pairs of name and text or element; what is not known is left out.
  function facts(i) {
    const picture = rows.structure[i] == null ? {} : data.structures[rows.structure[i]];
    const group = (rows.space_group && rows.space_group[i]) || picture.group;
    const has = (name) => rows[name] && rows[name][i] != null && rows[name][i] !== "";
    const energy = (name) => (has(name) ? `${Report.number(rows[name][i], 2)} meV/atom` : null);
    const list = [
      ["Verdict", has("verdict") ? rows.verdict[i] : null],
      ["Formation energy", energy("ef")], ["Above hull", energy("above")], ["Depth", energy("depth")],
      ["Energy", has("energy") ? `${Report.number(rows.energy[i], 4)} eV/atom, ${rows.kind[i]}` : rows.kind[i]],
      ["P(stable)", has("p_stable") ? Report.number(rows.p_stable[i], 2) : null],
      ["Space group", group ? Report.spaceGroup(group) : null],
      ["Prototype", has("prototype") ? Report.make("span", null, Report.prototype(rows.prototype[i]), rows.aflow[i] !== rows.prototype[i] ? ` (${rows.aflow[i]})` : null) : null],
      ["Pearson symbol", has("pearson") ? rows.pearson[i] : null],
      ["Cell", has("a") ? `${["a", "b", "c"].map((name) => Report.number(rows[name][i], 3)).join(", ")} Å; ${["alpha", "beta", "gamma"].map((name) => Report.number(rows[name][i], 1)).join(", ")}°` : null],
      ["Volume", has("volume") ? `${Report.number(rows.volume[i], 2)} Å³/atom` : null],
      ["Moved", has("displacement") ? `${Report.number(rows.displacement[i], 3)} Å; strain ${Report.number(100 * rows.strain[i], 1)} %` : null],
      [rows.stable[i] ? "Without it" : "Falls into", has("decomposition") ? rows.decomposition[i] : null],
      ["Lattice", has("lattice") ? rows.lattice[i] : null],
      ["Atoms", has("atoms") ? String(rows.atoms[i]) : null],
      ["Key", has("key") ? Report.make("code", null, rows.key[i]) : null],
    ];
    return list.filter(([, value]) => value);
  }

  // The file: of the hull's structures with symmetry, of all others atom by atom.
  function cif(i) {
    const structure = data.structures[rows.structure[i]];
    if (structure.cif) return structure.cif[0] + data.operations[structure.cif[1]] + structure.cif[2];
    const cell = structure.cell, vector = (k) => cell.slice(3 * k, 3 * k + 3);
    const dot = (u, v) => u.reduce((sum, x, k) => sum + x * v[k], 0), length = (v) => Math.sqrt(dot(v, v));
    const angle = (u, v) => (Math.acos(dot(u, v) / length(u) / length(v)) * 180) / Math.PI;
    const [a, b, c] = [0, 1, 2].map(vector);
    const lines = [
      `data_${rows.formula[i].replace(/[^A-Za-z0-9]/g, "")}`,
      ...[a, b, c].map((v, k) => `_cell_length_${"abc"[k]} ${length(v).toFixed(6)}`),
      ...[[b, c], [a, c], [a, b]].map(([u, v], k) => `_cell_angle_${["alpha", "beta", "gamma"][k]} ${angle(u, v).toFixed(6)}`),
      "_space_group_name_H-M_alt 'P 1'", "_space_group_IT_number 1", "loop_", "  _space_group_symop_operation_xyz", "  'x,y,z'",
      "loop_", "  _atom_site_type_symbol", "  _atom_site_label", "  _atom_site_fract_x", "  _atom_site_fract_y", "  _atom_site_fract_z", "  _atom_site_occupancy",
    ];
    structure.species.forEach((species, k) => {
      const symbol = data.elements[species].symbol;
      lines.push(`  ${symbol} ${symbol}${k + 1} ${structure.positions.slice(3 * k, 3 * k + 3).map((v) => v.toFixed(5)).join(" ")} 1.0`);
    });
    return lines.join("\n") + "\n";
  }

  function fileName(i) {
    if (rows.cif && rows.cif[i]) return rows.cif[i].split("/").pop();
    return `${rows.formula[i].replace(/[^A-Za-z0-9.]/g, "")}_${(rows.key ? rows.key[i] : String(i)).replace(/[^A-Za-z0-9.-]/g, "").slice(0, 60)}.cif`;
  }

  function legend(structure) {
    const present = [...new Set(structure.species)];
    return Report.make("div", { class: "species" }, ...present.map((species) =>
      Report.make("span", null, Report.make("i", { style: `background:${colour(species)}` }), data.elements[species].symbol)));
  }

  // Fill the panel with row i; the picture keeps its element, which holds the WebGL context.
  function show(i) {
    const place = rows.structure ? rows.structure[i] : null, structure = place == null ? null : data.structures[place];
    const heading = Report.make("h3", null, Report.formula(rows.formula[i]));
    const table = Report.make("dl", null, ...facts(i).flatMap(([name, value]) => [Report.make("dt", null, name), Report.make("dd", null, value)]));
    const tools = Report.make("div", { class: "tools" });
    panel.replaceChildren(heading);
    if (structure) {
      const size = Report.choice("cells", [["1", "1"], ["2", "2 × 2 × 2"]], String(repeats), (value) => { repeats = Number(value); draw(structure); });
      tools.append(legend(structure), size, Report.make("button", { type: "button", id: "cif", onclick: () => Report.save(fileName(i), cif(i), "chemical/x-cif") }, "Download CIF"));
      panel.append(picture, tools, Report.make("p", { class: "quiet small" }, structure.relaxed ? "Relaxed structure." : "Ideal structure on the parent lattice."));
    } else {
      panel.append(Report.make("p", { class: "quiet" }, "The page has no picture of this structure."));
    }
    panel.append(table);
    if (structure) draw(structure);
  }

  Report.structure = function () {
    panel = Report.place("structure");
    if (!panel || !rows.formula.length) return;
    picture = Report.make("div", { id: "picture", role: "img", "aria-label": "The structure in three dimensions; drag to turn." });
    Report.listeners.push((i, origin) => {
      show(i);
      // On a narrow screen the panel is far below what was clicked.
      if (origin !== "start" && panel.getBoundingClientRect().top > window.innerHeight * 0.8) panel.scrollIntoView({ behavior: "smooth", block: "nearest" });
      if (origin !== "start" && panel.getBoundingClientRect().bottom < 80) panel.scrollIntoView({ behavior: "smooth", block: "start" });
    });
    Report.redraw.push(() => { if (Report.selected != null) show(Report.selected); });
  };

  // The structure shown at first: the compound that is most certainly stable.
  Report.first = function () {
    let best = null;
    for (let i = 0; i < rows.formula.length; i++) {
      if (!rows.stable[i]) continue;
      const depth = (rows.depth && rows.depth[i]) ?? -1;
      if (best == null || depth > ((rows.depth && rows.depth[best]) ?? -1)) best = i;
    }
    return best ?? (rows.formula.length ? 0 : null);
  };
  Report.cif = cif;
}
