"use strict";
// What all parts of the page share. Foreign text is only ever set as text, never as markup.
const Report = { data: JSON.parse(document.getElementById("data").textContent), selected: null };

// Make an element: attributes, then children that are elements or text.
Report.make = function (tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
};

Report.place = (name) => document.getElementById(name);

// A formula with its numbers lowered.
Report.formula = function (text) {
  const parts = text.split(/(?<=[A-Za-z)])(\d+(?:\.\d+)?)/);
  return Report.make("span", { class: "formula" },
    ...parts.map((part, i) => (i % 2 ? Report.make("sub", null, part) : part)));
};

// The same as letters, for places that take text only.
Report.lowered = (text) =>
  text.replace(/(?<=[A-Za-z)])\d+/g, (n) => [...n].map((d) => "₀₁₂₃₄₅₆₇₈₉"[d]).join(""));

// Space groups as they are written: overlined and lowered characters.
Report.spaceGroup = (text) =>
  text.replace(/-(\d)/g, "$1\u0305").replace(/_(\d)/g, (_, d) => "₀₁₂₃₄₅₆₇₈₉"[d]);

// Strukturbericht symbols have their index lowered, AFLOW's labels stay as they are.
Report.prototypeParts = (text) => /^([A-Z][^_]*)_\{?(\w+)\}?$/.exec(text) || [text, text, ""];
Report.prototype = function (text) {
  const [, letter, index] = Report.prototypeParts(text);
  return Report.make("span", null, letter, index ? Report.make("sub", null, index) : null);
};

// plotly reads some tags in texts: take their brackets away.
Report.plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

Report.number = (value, digits) =>
  value == null ? "" : (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "\u2212");

// Colours of the page's style sheet, so that light and dark are defined in one place.
Report.colours = function () {
  const style = getComputedStyle(document.documentElement);
  const found = {};
  for (const name of ["ink", "quiet", "rule", "ground", "stable", "computed", "predicted", "own", "competing"]) {
    found[name] = style.getPropertyValue(`--${name}`).trim();
  }
  return found;
};

// One row is selected at a time; every part of the page may ask for it and hears of it.
Report.listeners = [];
Report.select = function (row, origin) {
  Report.selected = row;
  for (const listener of Report.listeners) listener(row, origin);
};

// Let the reader save a text as a file.
Report.save = function (name, text, type) {
  const link = Report.make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// A drop-down list; `options` are pairs of value and text.
Report.choice = function (label, options, value, changed) {
  const list = Report.make("select", { onchange: () => changed(list.value) });
  for (const [name, text] of options) list.append(Report.make("option", { value: name }, text));
  list.value = value;
  return Report.make("label", null, `${label} `, list);
};

// Style of all plots: the page's font and colours, no frame, nothing of the library's own.
Report.layout = function (more) {
  const c = Report.colours();
  const axis = { gridcolor: c.rule, linecolor: c.quiet, zeroline: false, automargin: true, ticks: "outside", ticklen: 4, tickcolor: c.quiet };
  const { xaxis, yaxis, ...rest } = more;
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: c.ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 10, r: 12, t: 10, b: 10 }, hovermode: "closest", showlegend: false, dragmode: "zoom",
    hoverlabel: { bgcolor: c.ground, bordercolor: c.quiet, font: { color: c.ink, size: 13 }, align: "left" },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
    ...rest,
  };
};

Report.config = {
  responsive: true, displaylogo: false, scrollZoom: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toggleSpikelines", "tableRotation", "resetCameraLastSave3d"],
  toImageButtonOptions: { format: "svg", filename: "hull" },
};

Report.narrow = () => window.matchMedia("(max-width: 40rem)").matches;
