// A small chart of the last two minutes, with one line for each series. Serves the page Stack.

import { h, s, write } from "./dom.js";

const POINTS = 120;
const [WIDE, HIGH] = [240, 56];

export class Chart {
  /** Creates an empty chart. `series` are `{ name, label }`, and `show` formats a value as a text. */
  constructor({ id, title, series, show }) {
    this.show = show;
    this.series = series.map(({ name, label }, index) => ({
      name, values: [],
      line: s("polyline", { class: `line line-${index}`, "vector-effect": "non-scaling-stroke" }),
      area: index === 0 ? s("polygon", { class: "area" }) : null,
      now: h("b", { class: "now", "data-series": name }, "–"), label, index,
    }));
    this.top = h("span", { class: "top" });
    const drawn = this.series.map(({ area, line }) => [area, line]);
    this.element = h("figure", { class: "chart", id: `chart-${id}` },
      h("figcaption", {}, h("span", { class: "label" }, title), this.series.map(({ now, label, index }) =>
        h("span", { class: "value" }, label ? h("i", { class: `key key-${index}`, "aria-hidden": true }) : null,
          now, label ? h("small", {}, label) : null))),
      s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": true }, drawn),
      this.top);
  }

  /** Adds a measurement: the value of each series by its name, or undefined for a series without one. */
  push(values) {
    for (const one of this.series) {
      one.values.push(values[one.name]);
      if (one.values.length > POINTS) one.values.shift();
      write(one.now, this.show(values[one.name]));
    }
    const max = Math.max(...this.series.flatMap(({ values }) => values.map((value) => value ?? 0)));
    write(this.top, max > 0 ? this.show(max) : "");
    const place = (value, index) =>
      `${WIDE - (POINTS - 1 - index) * (WIDE / (POINTS - 1))},${HIGH - 2 - (max > 0 ? value / max : 0) * (HIGH - 6)}`;
    for (const { values, line, area } of this.series) {
      const from = POINTS - values.length;
      const points = values.map((value, index) => place(value ?? 0, from + index));
      line.setAttribute("points", points.join(" "));
      const first = points[0]?.split(",")[0];
      area?.setAttribute("points", `${first},${HIGH} ${points.join(" ")} ${WIDE},${HIGH}`);
    }
  }
}
