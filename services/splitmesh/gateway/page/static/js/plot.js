/** Owns a canvas that is as sharp as the screen, and the scales and axes that are drawn on it. */

import { el } from "./dom.js";
import { colour } from "./places.js";

export const FONT = "11px system-ui, sans-serif";

/** A canvas of a fixed height that is as wide as there is room; `draw(pen, width)` in CSS pixels. */
export class Plot {
  /** @param {number} height @param {(pen: CanvasRenderingContext2D, width: number) => void} draw */
  constructor(height, draw) {
    this.height = height;
    this.drawing = draw;
    this.canvas = el("canvas", { role: "img" });
    this.canvas.style.height = `${height}px`;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) Object.assign(this.canvas, { width: wide, height: high });
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, this.height);
    pen.font = FONT;
    this.drawing(pen, width);
  }

  close() {
    this.observer.disconnect();
  }
}

/** The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `value`. @param {number} value */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= value * 0.9999) ?? 10;
  return step * power;
}

/**
 * Lines at 0, half and all of `top` with their labels left of `left`.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {{left: number, right: number, top: number, bottom: number}} lane
 * @param {readonly [number, string][]} ticks share of the height from the bottom, and its label
 */
export function gridLines(pen, lane, ticks) {
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  pen.lineWidth = 1;
  for (const [share, label] of ticks) {
    const y = Math.round(lane.bottom - share * (lane.bottom - lane.top)) + 0.5;
    pen.strokeStyle = colour("grid");
    line(pen, lane.left, y, lane.right, y);
    pen.fillStyle = colour("soft");
    pen.fillText(label, lane.left - 6, y);
  }
}

/** @param {CanvasRenderingContext2D} pen @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
export function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}
