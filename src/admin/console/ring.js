// A list that keeps only its newest items. Serves the journal and the page Wire.

export class Ring {
  /** Creates an empty ring that keeps at most `limit` items. */
  constructor(limit) {
    this.limit = limit;
    this.clear();
  }

  clear() {
    this.items = [];
    this.first = 0;
  }

  get length() {
    return this.items.length - this.first;
  }

  at(index) {
    return this.items[this.first + index];
  }

  /** Appends an item. Returns the oldest one if it was dropped for it. */
  push(item) {
    this.items.push(item);
    return this.length > this.limit ? this.shift() : undefined;
  }

  /** Removes and returns the oldest item. */
  shift() {
    if (this.length === 0) return undefined;
    const oldest = this.items[this.first];
    this.items[this.first] = undefined;
    this.first += 1;
    // The free places at the front are given back only once they are half of all, which costs little for each item.
    if (this.first > 1024 && this.first > this.items.length / 2) {
      this.items = this.items.slice(this.first);
      this.first = 0;
    }
    return oldest;
  }

  *[Symbol.iterator]() {
    for (let index = this.first; index < this.items.length; index += 1) yield this.items[index];
  }
}
