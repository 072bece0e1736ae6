"use strict";
// Bring the page to life: what is seen first comes first.
Report.structure();
Report.tables();
{
  const start = () => { if (Report.selected == null && Report.first() != null && Report.place("structure")) Report.select(Report.first(), "start"); };
  // After the first picture of the page: text can be read while the diagram is drawn.
  requestAnimationFrame(() => setTimeout(() => {
    Report.hull();
    Report.curves();
    setTimeout(start, 0);
  }, 0));
  const again = () => Report.redraw.forEach((draw) => draw());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  window.matchMedia("(max-width: 40rem)").addEventListener("change", again);
}
