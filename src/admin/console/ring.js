// The newest of many: pushes at the end, forgets at the front, finds by place.

export class Ring {
  /** Holds at most `most`. */
  constructor(most) {
    this.most = most;
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

  /** Appends; returns what fell out, if something did. */
  push(item) {
    this.items.push(item);
    return this.length > this.most ? this.shift() : undefined;
  }

  /** Takes out the oldest. */
  shift() {
    if (this.length === 0) return undefined;
    const oldest = this.items[this.first];
    this.items[this.first] = undefined;
    this.first += 1;
    // Moved together once in a while, which is cheap for each.
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
