// The drawing of the stack: lines between its parts, and dots that move along them for messages. Serves the page Stack.
//
// The parts are ordinary elements that the page lays out. The lines are drawn behind them, and follow their places.

import { s, set } from "./dom.js";

/** The largest number of dots that move at the same time. Further messages are not drawn. */
const DOTS = 48;
const TRAVEL_MS = 650;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Drawing {
  /** Creates the drawing behind the parts in `place`, which are the elements with an attribute `data-part`. */
  constructor(place) {
    this.place = place;
    this.lines = new Map();
    this.dots = [];
    this.lineLayer = s("g");
    this.dotLayer = s("g");
    this.element = s("svg", { class: "lines", "aria-hidden": true }, this.lineLayer, this.dotLayer);
    place.prepend(this.element);
    this.watcher = new ResizeObserver(() => this.lay());
    this.watcher.observe(place);
  }

  end() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.due);
  }

  /** Sets the lines between the parts, each as `[from, to, class]`. */
  join(pairs) {
    const wanted = pairs.map(([from, to, kind]) => `${from} ${to} ${kind}`).join();
    if (this.wanted === wanted) return;
    this.wanted = wanted;
    this.lines.clear();
    this.dots = [];
    set(this.dotLayer);
    set(this.lineLayer, pairs.map(([from, to, kind]) => {
      const path = s("path", { class: `edge ${kind}` });
      this.lines.set(`${from} ${to}`, { from, to, path });
      return path;
    }));
    this.lay();
  }

  /** Moves the lines to the places of the parts. */
  lay() {
    const base = this.place.getBoundingClientRect();
    if (base.width === 0) return;
    this.element.setAttribute("viewBox", `0 0 ${base.width} ${base.height}`);
    for (const line of this.lines.values()) {
      const [from, to] = [line.from, line.to].map((name) =>
        this.place.querySelector(`[data-part="${CSS.escape(name)}"]`)?.getBoundingClientRect());
      if (!from || !to) continue;
      line.path.setAttribute("d", curve(from, to, base));
      line.length = line.path.getTotalLength();
    }
  }

  /** Moves a dot from one part to another, along the line that joins them in either direction. */
  move(from, to, kind) {
    if (still.matches || document.hidden || this.dots.length >= DOTS) return;
    const line = this.lines.get(`${from} ${to}`) ?? this.lines.get(`${to} ${from}`);
    if (!line?.length) return;
    const dot = s("circle", { r: 3.5, class: `dot ${kind}` });
    this.dotLayer.append(dot);
    this.dots.push({ dot, line, back: line.from !== from, began: performance.now() });
    this.due ??= requestAnimationFrame((now) => this.#step(now));
  }

  #step(now) {
    this.due = null;
    this.dots = this.dots.filter(({ dot, line, back, began }) => {
      const share = (now - began) / TRAVEL_MS;
      if (share >= 1) {
        dot.remove();
        return false;
      }
      const eased = share < 0.5 ? 2 * share * share : 1 - 2 * (1 - share) ** 2;
      const { x, y } = line.path.getPointAtLength(line.length * (back ? 1 - eased : Math.max(eased, 0)));
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", y);
      return true;
    });
    if (this.dots.length > 0) this.due = requestAnimationFrame((next) => this.#step(next));
  }
}

/** Returns the path of a line from a side of one box to the nearest side of another. */
function curve(from, to, base) {
  const across = to.left >= from.right || from.left >= to.right;
  if (across) {
    const right = to.left >= from.right;
    const [x1, x2] = [right ? from.right : from.left, right ? to.left : to.right].map((x) => x - base.left);
    const [y1, y2] = [from, to].map((box) => box.top + box.height / 2 - base.top);
    const bend = (x2 - x1) / 2;
    return `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
  }
  const down = to.top >= from.bottom;
  const [y1, y2] = [down ? from.bottom : from.top, down ? to.top : to.bottom].map((y) => y - base.top);
  const left = Math.max(from.left, to.left);
  const right = Math.min(from.right, to.right);
  const x = (left + right) / 2 - base.left;
  return `M${x},${y1} L${x},${y2}`;
}
