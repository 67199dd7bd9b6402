/** Owns the last minute, on narrow screens half of it, of an edge on one time axis: its link, its decisions, and its latencies at the deadline. */

import { el, setAttribute } from "./dom.js";
import * as format from "./format.js";
import { gridLines, line, Plot, roundUp } from "./plot.js";
import { colour, PLACES } from "./places.js";

const SPAN_MS = 60_000;
const NARROW_SPAN_MS = 30_000;
const NARROW_PX = 520;
const BIN_MS = 1000;
const HEIGHT = 318;
const LEFT = 68;
const RIGHT = 10;
const LINK = { top: 20, bottom: 92 };
const DECISIONS = { top: 122, bottom: 166 };
const LATENCY = { top: 196, bottom: 292 };
const PERIOD_MS = 200;
const GRAB_PX = 14;
const NOT_ANSWERED = new Set(["shed", "expired"]);

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {{top: number, bottom: number}} Lane */

export class Timeline {
  /** @param {import("./ring.js").Ring<Frame>} frames @param {(frame: Frame) => void} pick */
  constructor(frames, pick) {
    this.frames = frames;
    this.deadlineMs = 0;
    /** @type {{frame: Frame, x: number, y: number}[]} */
    this.dots = [];
    this.newest = { capturedMs: 0, atMs: 0 };
    this.plot = new Plot(HEIGHT, (pen, width) => this.#draw(pen, width));
    this.tip = el("div", { class: "tip", hidden: true });
    this.element = el("div", { class: "plot" }, this.plot.canvas, this.tip);
    const { canvas } = this.plot;
    canvas.addEventListener("pointermove", (event) => this.#hover(event));
    canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    canvas.addEventListener("click", (event) => {
      const found = this.#nearest(event);
      if (found) pick(found.frame);
    });
    this.timer = setInterval(() => document.hidden || this.plot.draw(), PERIOD_MS);
  }

  close() {
    clearInterval(this.timer);
    this.plot.close();
  }

  /** The edge's clock now, as far as its newest frame tells. */
  #nowMs() {
    const capturedMs = this.frames.last?.captured_ms ?? 0;
    if (capturedMs !== this.newest.capturedMs) this.newest = { capturedMs, atMs: performance.now() };
    return capturedMs + Math.min(performance.now() - this.newest.atMs, 3000);
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} width */
  #draw(pen, width) {
    const nowMs = this.#nowMs();
    const right = width - RIGHT;
    const spanMs = width < NARROW_PX ? NARROW_SPAN_MS : SPAN_MS;
    const from = nowMs - spanMs;
    const shown = this.frames.items.filter((frame) => frame.captured_ms >= from);
    shown.sort((a, b) => a.captured_ms - b.captured_ms);
    /** @param {number} ms */
    const x = (ms) => LEFT + ((ms - from) / spanMs) * (right - LEFT);
    drawTimes(pen, right, spanMs);
    drawLink(pen, shown, x, right);
    drawDecisions(pen, shown, x, right, nowMs);
    this.dots = drawLatency(pen, shown, x, right, this.deadlineMs);
    setAttribute(this.plot.canvas, "aria-label", inWords(shown));
    this.plot.canvas.style.cursor = this.tip.hidden ? "default" : "pointer";
  }

  /** @param {MouseEvent} event */
  #nearest({ offsetX, offsetY }) {
    let best = null;
    let least = GRAB_PX ** 2;
    for (const dot of this.dots) {
      const distance = (dot.x - offsetX) ** 2 + (dot.y - offsetY) ** 2;
      if (distance < least) [best, least] = [dot, distance];
    }
    return best;
  }

  /** @param {MouseEvent} event */
  #hover(event) {
    const found = this.#nearest(event);
    this.tip.hidden = !found;
    if (!found) return;
    const { frame, x, y } = found;
    this.tip.textContent = `frame ${frame.seq}: ${frame.outcome}, ${format.ms(frame.latency_ms)}, ${format.point(frame.point)}`;
    const left = Math.min(x + 12, this.plot.canvas.clientWidth - this.tip.offsetWidth - 4);
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${y - 34}px`;
  }
}

/** @param {CanvasRenderingContext2D} pen @param {string} text @param {Lane} lane */
function title(pen, text, lane) {
  pen.textAlign = "left";
  pen.textBaseline = "alphabetic";
  pen.fillStyle = colour("soft");
  pen.fillText(text, LEFT, lane.top - 7);
}

/** @param {CanvasRenderingContext2D} pen @param {number} right @param {number} spanMs */
function drawTimes(pen, right, spanMs) {
  pen.fillStyle = colour("soft");
  pen.textBaseline = "alphabetic";
  for (let ago = 0; ago <= spanMs; ago += spanMs / 4) {
    const at = right - (ago / spanMs) * (right - LEFT);
    pen.textAlign = ago === 0 ? "right" : ago === spanMs ? "left" : "center";
    pen.fillText(ago === 0 ? "now" : `−${ago / 1000} s`, at, LATENCY.bottom + 18);
  }
}

/** Powers of ten around all but the most extreme of `rates`, which are sorted. @param {readonly number[]} rates */
function decades(rates) {
  const at = (/** @type {number} */ share) => rates[Math.floor(share * (rates.length - 1))] ?? 1e6;
  const first = Math.floor(Math.log10(at(0.02)));
  const last = Math.max(first + 1, Math.ceil(Math.log10(at(0.98))));
  const ticks = Array.from({ length: last - first + 1 }, (_, n) => 10 ** (first + n));
  return { low: ticks[0], high: ticks[ticks.length - 1], ticks };
}

/**
 * On a logarithmic scale: an uplink may lose most of its rate within a second.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {readonly Frame[]} frames
 * @param {(ms: number) => number} x
 * @param {number} right
 */
function drawLink(pen, frames, x, right) {
  const known = frames.filter(({ link }) => link.bandwidth_bps > 0);
  const sure = known.some(({ link }) => link.high_bps > 0);
  title(pen, sure ? "link, bandwidth with its 80 % interval" : "link, estimated bandwidth", LINK);
  const { low, high, ticks } = decades(known.map(({ link }) => link.bandwidth_bps).sort((a, b) => a - b));
  /** @param {number} bps */
  const share = (bps) => Math.log(Math.min(Math.max(bps, low), high) / low) / Math.log(high / low);
  /** @param {number} bps */
  const y = (bps) => LINK.bottom - share(bps) * (LINK.bottom - LINK.top);
  gridLines(pen, { ...LINK, left: LEFT, right }, ticks.map((bps) => [share(bps), format.short(format.bps(bps))]));
  if (!known.length) return;
  pen.beginPath();
  for (const { captured_ms, link } of known) pen.lineTo(x(captured_ms), y(link.high_bps || link.bandwidth_bps));
  for (const { captured_ms, link } of [...known].reverse()) pen.lineTo(x(captured_ms), y(link.low_bps || link.bandwidth_bps));
  pen.fillStyle = colour("band");
  pen.fill();
  pen.beginPath();
  for (const { captured_ms, link } of known) pen.lineTo(x(captured_ms), y(link.bandwidth_bps));
  pen.strokeStyle = colour("estimate");
  pen.lineWidth = 1.5;
  pen.stroke();
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {readonly Frame[]} frames
 * @param {(ms: number) => number} x
 * @param {number} right
 * @param {number} nowMs
 */
function drawDecisions(pen, frames, x, right, nowMs) {
  title(pen, "how frames were answered, per second", DECISIONS);
  /** @type {Map<number, Map<string, number>>} */
  const bins = new Map();
  for (const { captured_ms, outcome } of frames) {
    const bin = Math.floor(captured_ms / BIN_MS);
    const counts = bins.get(bin) ?? new Map();
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    bins.set(bin, counts);
  }
  const most = Math.max(1, ...[...bins.values()].map((counts) => [...counts.values()].reduce((a, b) => a + b, 0)));
  gridLines(pen, { ...DECISIONS, left: LEFT, right }, [[0, "0"], [1, `${most} /s`]]); // prettier-ignore
  for (const [bin, counts] of bins) {
    const left = Math.max(LEFT, x(bin * BIN_MS));
    const wide = Math.max(1, x(Math.min((bin + 1) * BIN_MS, nowMs)) - left - 1);
    let bottom = DECISIONS.bottom;
    for (const { key } of PLACES) {
      const high = ((counts.get(key) ?? 0) / most) * (DECISIONS.bottom - DECISIONS.top);
      pen.fillStyle = colour(key);
      pen.fillRect(left, bottom - high, wide, high);
      bottom -= high;
    }
  }
}

/**
 * Dots; what lies beyond twice the deadline is drawn at the rim, what was never answered as a stroke there.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {readonly Frame[]} frames
 * @param {(ms: number) => number} x
 * @param {number} right
 * @param {number} deadlineMs
 */
function drawLatency(pen, frames, x, right, deadlineMs) {
  title(pen, "latency, capture to result, at the deadline", LATENCY);
  const top = roundUp(1.35 * Math.max(deadlineMs, 20));
  const high = LATENCY.bottom - LATENCY.top;
  /** @param {number} ms */
  const y = (ms) => LATENCY.bottom - (Math.min(ms, top) / top) * high;
  gridLines(pen, { ...LATENCY, left: LEFT, right }, [[0, "0"], [0.5, format.ms(top / 2)], [1, format.ms(top)]]); // prettier-ignore
  const dots = frames.map((frame) => ({ frame, x: x(frame.captured_ms), y: y(frame.latency_ms ?? top) }));
  for (const { frame, x: at, y: level } of dots) {
    pen.fillStyle = colour(frame.outcome);
    if (NOT_ANSWERED.has(frame.outcome)) pen.fillRect(at - 1, LATENCY.top - 3, 2.5, 9);
    else {
      pen.beginPath();
      pen.arc(at, level, frame.hit ? 2 : 2.8, 0, 2 * Math.PI);
      pen.fill();
    }
  }
  if (deadlineMs > 0) {
    pen.strokeStyle = colour("gone");
    pen.setLineDash([5, 4]);
    line(pen, LEFT, y(deadlineMs), right, y(deadlineMs));
    pen.setLineDash([]);
    pen.fillStyle = colour("gone");
    pen.textAlign = "right";
    pen.fillText(`deadline ${format.ms(deadlineMs)}`, right, y(deadlineMs) - 6);
  }
  return dots;
}

/** @param {readonly Frame[]} frames */
function inWords(frames) {
  const missed = frames.filter((frame) => !frame.hit).length;
  const rate = frames.length ? frames[frames.length - 1].link.bandwidth_bps : 0;
  return `Lately ${frames.length} frames, ${missed} of them not in time; the link carries ${format.bps(rate)}`;
}
