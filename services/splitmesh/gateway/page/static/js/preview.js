/** Owns the live picture of an edge with what was found on it. */

import { el, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { colour, placeOf } from "./places.js";
import { card } from "./parts.js";

const STALE_MS = 4000;
const REFERENCE_PX = 640;

export class PreviewPanel {
  /** @param {string} name of the edge */
  constructor(name) {
    this.name = name;
    this.canvas = el("canvas", { role: "img", "aria-label": `Live picture of ${name}` });
    this.waiting = el("p", {}, "Waiting for a picture…");
    this.point = el("b");
    this.latency = el("span");
    this.found = el("span");
    this.shownMs = 0;
    this.busy = false;
    this.timer = setInterval(() => this.#watchAge(), 1000);
    const caption = el("div", { class: "caption" }, this.point, this.latency, this.found);
    this.element = card("Live picture", el("div", { class: "preview" }, this.canvas, this.waiting), caption);
  }

  /** A picture that comes while one is decoded is left out. @param {{head: import("./types.js").Preview, jpeg: Blob}} preview */
  async show({ head, jpeg }) {
    if (this.busy) return;
    this.busy = true;
    try {
      const picture = await createImageBitmap(jpeg);
      this.#draw(picture, head);
      picture.close();
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      setText(this.waiting, "A picture came that is none.");
      this.waiting.hidden = false;
    } finally {
      this.busy = false;
    }
  }

  close() {
    clearInterval(this.timer);
  }

  /** @param {ImageBitmap} picture @param {import("./types.js").Preview} head */
  #draw(picture, head) {
    if (this.canvas.width !== picture.width) this.canvas.width = picture.width;
    if (this.canvas.height !== picture.height) this.canvas.height = picture.height;
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    pen.drawImage(picture, 0, 0);
    const place = placeOf(head.point || "tracked");
    for (const box of head.boxes) drawBox(pen, box, colour(place));
    this.waiting.hidden = true;
    this.shownMs = performance.now();
    setText(this.point, format.point(head.point));
    setText(this.latency, head.latency_ms === null ? "no answer" : `${format.ms(head.latency_ms)}, ${head.hit ? "in time" : "too late"}`);
    setAttribute(this.latency, "class", head.hit ? null : "miss");
    setText(this.found, inWords(head.boxes));
    setAttribute(this.canvas, "aria-label", `Live picture of ${this.name}: ${inWords(head.boxes)}`);
  }

  #watchAge() {
    if (!this.shownMs || performance.now() - this.shownMs < STALE_MS) return;
    setText(this.waiting, `No new picture for ${Math.round((performance.now() - this.shownMs) / 1000)} s: frames come first.`);
    this.waiting.hidden = false;
  }
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {[number, number, number, number, number, string]} box
 * @param {string} ink
 */
function drawBox(pen, [left, top, right, bottom, score, label], ink) {
  const { width, height } = pen.canvas;
  const scale = Math.max(1, width / REFERENCE_PX);
  const [x, y] = [left * width, top * height];
  pen.lineWidth = 2 * scale;
  pen.strokeStyle = ink;
  pen.strokeRect(x, y, (right - left) * width, (bottom - top) * height);
  pen.font = `600 ${12 * scale}px system-ui, sans-serif`;
  const text = `${label} ${score.toFixed(2)}`;
  const wide = pen.measureText(text).width + 8 * scale;
  const above = Math.max(0, y - 16 * scale);
  pen.fillStyle = "rgb(8 14 22 / 78%)";
  pen.fillRect(x - scale, above, wide, 16 * scale);
  pen.fillStyle = "#fff";
  pen.fillText(text, x + 3 * scale, above + 12 * scale);
}

/** @param {import("./types.js").Preview["boxes"]} boxes */
function inWords(boxes) {
  const counts = new Map();
  for (const box of boxes) counts.set(box[5], (counts.get(box[5]) ?? 0) + 1);
  if (!counts.size) return "nothing found";
  return [...counts].map(([label, count]) => (count > 1 ? `${count} × ${label}` : label)).join(", ");
}
