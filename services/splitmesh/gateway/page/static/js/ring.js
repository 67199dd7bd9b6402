/** Owns the last so many of something: what is older makes room. Memory never grows. @template T */
export class Ring {
  /** @param {number} size */
  constructor(size) {
    /** @type {T[]} */
    this.items = [];
    this.size = size;
  }

  /** @param {readonly T[]} items oldest first */
  push(...items) {
    this.items.push(...items.slice(-this.size));
    if (this.items.length > this.size) this.items.splice(0, this.items.length - this.size);
  }

  clear() {
    this.items.length = 0;
  }

  /** The newest. @returns {T | undefined} */
  get last() {
    return this.items[this.items.length - 1];
  }
}
