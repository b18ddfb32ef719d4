// A list of any length that holds only the rows one sees: each is HEIGHT high, so a place is a multiplication.

import { h } from "./dom.js";

/** Also in base.css. */
const HEIGHT = 28;
/** Rows above and below what is seen. */
const SPARE = 6;

export class List {
  /**
   * `make()` returns an empty row, `show(row, item)` fills it, `open(item)` is told what was chosen. `items` has `length`
   * and `at(index)`.
   */
  constructor({ label, make, show, open }) {
    Object.assign(this, { make, show, open });
    this.items = [];
    this.rows = [];
    this.chosen = null;
    this.following = true;
    this.room = h("div", { class: "list-room", role: "presentation" });
    this.element = h("div", {
      class: "list", tabindex: 0, role: "listbox", "aria-label": label,
      onscroll: () => this.#scrolled(), onkeydown: (event) => this.#key(event),
      onclick: (event) => this.#click(event),
    }, this.room);
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.element);
  }

  /** Shows `items`, of which `fallen` have gone at the front since the last time. */
  update(items, fallen = 0) {
    this.items = items;
    if (fallen > 0 && !this.following) {
      // What one looks at stays where it is.
      this.element.scrollTop -= fallen * HEIGHT;
    }
    this.draw();
  }

  /** Whether the newest stays in sight. */
  follow(on) {
    this.following = on;
    this.draw();
  }

  /** At the next frame, however often it is asked for. */
  draw() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      this.#draw();
    });
  }

  end() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.due);
  }

  #draw() {
    const high = this.items.length * HEIGHT;
    if (this.high !== high) {
      this.room.style.height = `${high}px`;
      this.high = high;
    }
    if (this.following) this.element.scrollTop = high;
    const top = Math.max(0, Math.floor(this.element.scrollTop / HEIGHT) - SPARE);
    const seen = Math.ceil(this.element.clientHeight / HEIGHT) + 2 * SPARE;
    const end = Math.min(this.items.length, top + seen);
    while (this.rows.length < end - top) {
      const row = this.make();
      row.classList.add("row");
      row.setAttribute("role", "option");
      this.rows.push(row);
      this.room.append(row);
    }
    while (this.rows.length > end - top) this.rows.pop().remove();
    this.element.removeAttribute("aria-activedescendant");
    this.rows.forEach((row, index) => {
      const item = this.items.at(top + index);
      row.item = item;
      row.id = `row-${item.seq}`;
      row.style.transform = `translateY(${(top + index) * HEIGHT}px)`;
      const chosen = item === this.chosen;
      row.setAttribute("aria-selected", chosen);
      row.setAttribute("aria-posinset", top + index + 1);
      row.setAttribute("aria-setsize", this.items.length);
      if (chosen) this.element.setAttribute("aria-activedescendant", row.id);
      this.show(row, item);
    });
  }

  #scrolled() {
    const atEnd = this.element.scrollTop + this.element.clientHeight >= this.high - HEIGHT;
    // The browser also says so when the list has only grown.
    if (!atEnd && this.following && this.element.scrollTop < (this.wasAt ?? 0)) {
      this.following = false;
      this.onfollow?.(false);
    } else if (atEnd && !this.following && this.element.scrollTop > (this.wasAt ?? 0)) {
      this.following = true;
      this.onfollow?.(true);
    }
    this.wasAt = this.element.scrollTop;
    this.draw();
  }

  #click(event) {
    const row = event.target.closest(".row");
    if (row) this.choose(row.item);
  }

  /** Chooses one; null for none. */
  choose(item) {
    this.chosen = item;
    if (item) {
      this.following = false;
      this.onfollow?.(false);
    }
    this.open(item);
    this.draw();
  }

  #place() {
    for (let index = 0; index < this.items.length; index += 1) {
      if (this.items.at(index) === this.chosen) return index;
    }
    return -1;
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / HEIGHT) - 1);
    const end = this.items.length - 1;
    const from = () => {
      const place = this.#place();
      return place >= 0 ? place : Math.floor((this.element.scrollTop + this.element.clientHeight) / HEIGHT);
    };
    const steps = {
      ArrowDown: () => from() + 1, ArrowUp: () => from() - 1, PageDown: () => from() + page,
      PageUp: () => from() - page, Home: () => 0, End: () => end,
    };
    if (!steps[event.key] || end < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const to = Math.min(end, Math.max(0, steps[event.key]()));
    this.choose(this.items.at(to));
    const { scrollTop, clientHeight } = this.element;
    if (to * HEIGHT < scrollTop) this.element.scrollTop = to * HEIGHT;
    else if ((to + 1) * HEIGHT > scrollTop + clientHeight) {
      this.element.scrollTop = (to + 1) * HEIGHT - clientHeight;
    }
  }
}
