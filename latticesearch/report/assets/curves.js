"use strict";
// Curves: the course of the search, the errors of predictions, voltages.
{
  const data = Report.data, rows = data.rows;

  // Draw a plot when it comes into sight, and again when the colours change.
  function later(place, draw) {
    let seen = false;
    const watcher = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen = true;
      watcher.disconnect();
      draw();
    }, { rootMargin: "300px" });
    watcher.observe(place);
    Report.redraw.push(() => seen && draw());
  }

  // One small diagram over the number of calculations; rounds without a value are bridged.
  function panel(place, title, curves) {
    const holder = Report.make("div", { class: "plot small-plot", role: "img", "aria-label": title });
    place.append(holder);
    later(holder, () => {
      const c = Report.colours();
      const traces = curves.map(([name, key, colour, symbol]) => {
        const last = new Map(data.rounds.filter((r) => r[key] != null).map((r) => [r.oracle_calls, r[key]]));
        return { type: "scatter", mode: "lines+markers", name, x: [...last.keys()], y: [...last.values()], connectgaps: true,
          marker: { size: 6, symbol, color: c[colour] }, line: { width: 1.8, color: c[colour] }, hovertemplate: `%{y:.4g} after %{x} calculations<extra></extra>` };
      });
      Plotly.react(holder, traces, Report.layout({
        showlegend: curves.length > 1, legend: { x: 1, xanchor: "right", y: 1, font: { size: 12 } }, margin: { l: 8, r: 8, t: 34, b: 8 },
        title: { text: title, font: { size: 13 }, x: 0.02, xanchor: "left", y: 0.97 }, xaxis: { title: { text: "oracle calculations", font: { size: 12 } } }, yaxis: { rangemode: "tozero" },
      }), { ...Report.config, displayModeBar: false });
    });
  }

  function learning() {
    const place = Report.place("learning");
    if (!place) return;
    panel(place, "stable structures", [["", "n_vertices", "computed", "circle"]]);
    panel(place, "hull moved by (meV/atom)", [["", "hull_change", "stable", "circle"]]);
    panel(place, "r.m.s. error (meV/atom)", [["of checked predictions", "near_hull_error", "own", "circle"], ["of the fit", "rmse", "quiet", "square"]]);
    panel(place, "chance to miss something (%)", [["", "missing", "competing", "circle"]]);
  }

  // Error of the prediction over height above the hull; what is computed only has both.
  function predictions() {
    const place = Report.place("predictions");
    if (!place || !rows.error) { if (place) place.remove(); return; }
    const members = [...rows.error.keys()].filter((i) => rows.error[i] != null && rows.kind[i] === "computed");
    later(place, () => {
      const c = Report.colours();
      Plotly.react(place, [{
        type: "scatter", mode: "markers", x: members.map((i) => rows.above[i]), y: members.map((i) => rows.error[i]), customdata: members,
        text: members.map((i) => `<b>${Report.plain(Report.lowered(rows.formula[i]))}</b><br>predicted − true ${Report.number(rows.error[i], 2)} meV/atom`), hoverinfo: "text",
        marker: { size: 7, color: c.computed, opacity: 0.75 },
      }], Report.layout({
        xaxis: { title: { text: "energy above hull (meV/atom)" } }, yaxis: { title: { text: "predicted − true (meV/atom)" }, zeroline: true, zerolinecolor: c.quiet },
      }), Report.config);
      place.removeAllListeners("plotly_click");
      place.on("plotly_click", (event) => Report.select(event.points[0].customdata, "curve"));
    });
  }

  // Steps of the voltage over the ions left.
  function voltage() {
    const place = Report.place("voltage");
    if (!place || !data.voltages) return;
    later(place, () => {
      const c = Report.colours(), x = [], y = [];
      for (const step of data.voltages.steps) { x.push(...step.ions); y.push(step.voltage, step.voltage); }
      Plotly.react(place, [{ type: "scatter", mode: "lines", x, y, line: { color: c.computed, width: 2.5 }, hovertemplate: "%{y:.3f} V<extra></extra>" }], Report.layout({
        xaxis: { title: { text: `${data.voltages.ion} per ${Report.lowered(data.voltages.unit)}` } },
        yaxis: { title: { text: data.voltages.absolute ? `voltage against ${data.voltages.ion} (V)` : "voltage, relative (V)" } },
      }), Report.config);
    });
  }

  Report.curves = function () { learning(); predictions(); voltage(); };
}
