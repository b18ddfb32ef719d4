// A list of any length that has elements for the visible rows only. Serves the page Wire. All rows are HEIGHT pixels high, so
// the place of a row is known without those before it.

import { h } from "./dom.js";

/** The height of a row in pixels. base.css has the same value. */
const HEIGHT = 28;
/** How many rows are drawn above and below the visible ones. */
const SPARE = 6;

export class List {
  /**
   * Creates an empty list. `make()` returns an empty row, `show(row, item)` fills it, and `open(item)` is called with the
   * item that the user has chosen. The items of the list have `length` and `at(index)`.
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

  /** Shows `items`, from whose front `fallen` items were removed since the last call. */
  update(items, fallen = 0) {
    this.items = items;
    if (fallen > 0 && !this.following) {
      // Scrolled by the removed rows, so that the visible ones stay in their place.
      this.element.scrollTop -= fallen * HEIGHT;
    }
    this.draw();
  }

  /** Sets whether the list scrolls to the newest item by itself. */
  follow(on) {
    this.following = on;
    this.draw();
  }

  /** Draws the list at the browser's next frame, once even if called several times. */
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
    // The browser reports a scroll also when the list has only grown: then the place is not above the last one.
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

  /** Chooses an item, or none for null, and opens it. */
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
