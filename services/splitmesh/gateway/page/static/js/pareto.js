/** Owns the picture of what may be decided: bytes of a frame against fidelity, and where the edge is now. */

import { el, keyed, setAttribute, setText, svg } from "./dom.js";
import * as format from "./format.js";
import { card, place } from "./parts.js";

const WIDTH = 520;
const HEIGHT = 300;
const BOX = { left: 46, right: WIDTH - 14, top: 22, bottom: HEIGHT - 40 };
const GUTTER = 62;

/** @typedef {import("./types.js").Point} Point */

export class Pareto {
  /** @param {import("./ring.js").Ring<import("./types.js").Frame>} frames */
  constructor(frames) {
    this.frames = frames;
    /** @type {Point[]} */
    this.points = [];
    this.axes = svg("g");
    this.front = svg("path", { class: "front" });
    this.dots = svg("g");
    this.ring = svg("circle", { class: "current", r: 9, visibility: "hidden" });
    this.picture = svg("svg", { class: "pareto", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, this.axes, this.front, this.dots, this.ring);
    this.now = el("p", { class: "soft" });
    this.rows = el("tbody");
    this.element = card("Rate and fidelity", this.picture, this.now, this.#table());
    this.low = 100;
    this.high = 100_000;
    this.least = 0.5;
  }

  /** @param {Point[]} points */
  setPoints(points) {
    this.points = points;
    const sent = points.map((point) => point.bytes).filter((bytes) => bytes > 0);
    if (sent.length) {
      this.low = Math.min(...sent) * 0.75;
      this.high = Math.max(...sent) * 1.35;
    }
    const worst = Math.min(1, ...points.filter((point) => point.place !== "track").map((point) => point.fidelity));
    this.least = Math.max(0, Math.floor((worst - 0.02) * 20) / 20);
    this.#drawAxes();
    setAttribute(this.front, "d", this.#frontPath());
    keyed(this.rows, points, (point) => point.name, row, () => {});
    this.show(0);
  }

  /** Mark where the last `lookBack` frames were decided. @param {number} lookBack */
  show(lookBack) {
    const recent = this.frames.items.slice(-lookBack || undefined);
    const counts = new Map();
    for (const { point } of recent) counts.set(point, (counts.get(point) ?? 0) + 1);
    keyed(this.dots, this.points, (point) => point.name, () => svg("circle", {}, svg("title")), (dot, point) => this.#dot(dot, point, (counts.get(point.name) ?? 0) / (recent.length || 1)));
    const current = this.frames.last?.point ?? "";
    const found = this.points.find((point) => point.name === current);
    setAttribute(this.ring, "visibility", found ? "visible" : "hidden");
    if (found) {
      setAttribute(this.ring, "cx", this.#x(found.bytes, found.place));
      setAttribute(this.ring, "cy", this.#y(found.fidelity));
    }
    setText(this.now, current ? `The last frame: ${format.point(current)}${found ? `, ${sent(found)}, fidelity ${found.fidelity.toFixed(3)}` : ""}.` : "");
    setAttribute(this.picture, "aria-label", `${this.points.length} operating points by bytes and fidelity. ${this.now.textContent}`);
    for (const each of this.rows.children) setAttribute(each, "class", /** @type {any} */ (each).itemKey === current ? "chosen" : null);
  }

  /** @param {SVGElement} dot @param {Point} point @param {number} share of recent frames */
  #dot(dot, point, share) {
    setAttribute(dot, "class", `point fill-${point.place}`);
    setAttribute(dot, "cx", this.#x(point.bytes, point.place).toFixed(1));
    setAttribute(dot, "cy", this.#y(point.fidelity).toFixed(1));
    setAttribute(dot, "r", (4 + 7 * Math.sqrt(share)).toFixed(1));
    const used = share > 0 ? `, ${format.percent(share)} of recent frames` : "";
    setText(/** @type {Element} */ (dot.firstElementChild), `${format.point(point.name)}: ${sent(point)}, fidelity ${point.fidelity.toFixed(3)}${used}`);
  }

  /** What sends nothing stands left of the logarithmic scale. @param {number} bytes @param {string} [place] */
  #x(bytes, place = "") {
    const left = BOX.left + GUTTER;
    if (bytes <= 0) return BOX.left + GUTTER * (place === "track" ? 0.22 : 0.5);
    return left + (Math.log(bytes / this.low) / Math.log(this.high / this.low)) * (BOX.right - left);
  }

  /** @param {number} fidelity */
  #y(fidelity) {
    return BOX.bottom - (Math.max(0, fidelity - this.least) / (1.005 - this.least)) * (BOX.bottom - BOX.top);
  }

  #frontPath() {
    let best = -1;
    const front = [];
    for (const point of this.points.filter(({ bytes }) => bytes > 0).sort((a, b) => a.bytes - b.bytes || b.fidelity - a.fidelity)) {
      if (point.fidelity <= best) continue;
      best = point.fidelity;
      front.push(`${this.#x(point.bytes).toFixed(1)},${this.#y(point.fidelity).toFixed(1)}`);
    }
    return front.length > 1 ? `M${front.join(" L")}` : "";
  }

  #drawAxes() {
    const parts = [svg("text", { x: BOX.left + GUTTER / 2, y: BOX.bottom + 16, "text-anchor": "middle" }, "none")];
    const apart = this.high / this.low > 50 ? [1] : [1, 2, 5];
    for (let power = 10; power < 1e8; power *= 10) {
      for (const each of apart.map((step) => step * power).filter((bytes) => bytes >= this.low && bytes <= this.high)) {
        const x = this.#x(each);
        parts.push(svg("line", { class: "gridline", x1: x, x2: x, y1: BOX.top, y2: BOX.bottom }));
        parts.push(svg("text", { x, y: BOX.bottom + 16, "text-anchor": "middle" }, format.short(format.bytes(each))));
      }
    }
    const step = this.least < 0.6 ? 0.1 : this.least < 0.86 ? 0.05 : 0.02;
    for (let level = 1; level >= this.least - 1e-9; level -= step) {
      const y = this.#y(level);
      parts.push(svg("line", { class: "gridline", x1: BOX.left, x2: BOX.right, y1: y, y2: y }));
      const least = level - step < this.least - 1e-9 && this.points.some((point) => point.fidelity < this.least);
      parts.push(svg("text", { x: BOX.left - 6, y: y + 4, "text-anchor": "end" }, `${least ? "≤ " : ""}${level.toFixed(2)}`));
    }
    parts.push(svg("text", { x: BOX.right, y: HEIGHT - 6, "text-anchor": "end" }, "sent per frame →"));
    parts.push(svg("text", { x: BOX.left - 40, y: BOX.top - 2 }, "fidelity"));
    this.axes.replaceChildren(...parts);
  }

  #table() {
    const head = ["Point", "Sent", "Fidelity", "Edge", "Cloud"].map((name, n) => el("th", { scope: "col", class: n ? "n" : "" }, name));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), this.rows);
    const region = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Operating points" }, table);
    return el("details", {}, el("summary", {}, "All operating points"), region);
  }
}

/** @param {Point} point */
const sent = ({ bytes }) => (bytes > 0 ? format.bytes(bytes) : "nothing sent");

/** @param {Point} point */
const row = (point) =>
  el(
    "tr",
    {},
    el("th", { scope: "row" }, place(point.place, format.point(point.name))),
    ...[format.bytes(point.bytes), point.fidelity.toFixed(3), format.ms(point.edge_ms), format.ms(point.cloud_ms)].map((text) => el("td", { class: "n" }, text)),
  );
