/** Owns the list of the last frames of an edge; a click on one tells its story. */

import { el, keyed, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { card, place } from "./parts.js";

const ROWS = 40;

/** @typedef {import("./types.js").Frame} Frame */

export class FramesTable {
  /** @param {import("./ring.js").Ring<Frame>} frames @param {(frame: Frame) => void} pick */
  constructor(frames, pick) {
    this.frames = frames;
    this.pick = pick;
    this.paused = false;
    this.held = false;
    this.body = el("tbody");
    this.misses = el("input", { type: "checkbox", id: "only-misses", change: () => this.#draw() });
    this.pause = el("button", { type: "button", "aria-pressed": "false", click: () => this.#toggle() }, "Pause");
    const head = ["Frame", "Answered", "Decided", "Latency", "Predicted", "Sent", "Worker"];
    const numbers = new Set(["Latency", "Predicted", "Sent"]);
    const cells = head.map((name) => el("th", { scope: "col", class: numbers.has(name) ? "n" : "" }, name));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...cells)), this.body);
    const region = el("div", { class: "scroll frames", tabindex: "0", role: "group", "aria-label": "Last frames" }, table);
    const controls = el("div", { class: "actions push" }, el("label", { for: "only-misses" }, "only misses"), this.misses, this.pause);
    this.element = card("Last frames", region);
    this.element.firstElementChild?.append(controls);
    this.#holdWhilePointed(region);
  }

  /** New frames have come; a table that somebody points at stands still. */
  show() {
    if (!this.paused && !this.held) this.#draw();
  }

  #toggle() {
    this.paused = !this.paused;
    setAttribute(this.pause, "aria-pressed", String(this.paused));
    this.show();
  }

  /** @param {Element} region */
  #holdWhilePointed(region) {
    region.addEventListener("pointerenter", () => (this.held = true));
    region.addEventListener("pointerleave", () => (this.held = false));
    region.addEventListener("focusin", () => (this.held = true));
    region.addEventListener("focusout", () => (this.held = false));
  }

  #draw() {
    const wanted = this.misses.checked ? this.frames.items.filter((frame) => !frame.hit) : this.frames.items;
    const rows = wanted.slice(-ROWS).sort((a, b) => b.captured_ms - a.captured_ms);
    keyed(this.body, rows, (frame) => frame.id, (frame) => this.#row(frame), () => {});
  }

  /** @param {Frame} frame */
  #row(frame) {
    const seq = el("button", { type: "button", class: "link-button", "aria-label": `Frame ${frame.seq}: its story`, click: () => this.pick(frame) }, String(frame.seq));
    const latency = el("td", { class: frame.hit ? "n" : "n miss" });
    setText(latency, frame.latency_ms === null ? "none" : `${format.ms(frame.latency_ms)}${frame.hit ? "" : " late"}`);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, seq),
      el("td", {}, place(frame.outcome)),
      el("td", { class: "nowrap" }, format.point(frame.point)),
      latency,
      el("td", { class: "n" }, format.ms(frame.predicted_ms)),
      el("td", { class: "n" }, format.bytes(frame.bytes)),
      el("td", { class: "nowrap" }, frame.worker || "–"),
    );
  }
}
