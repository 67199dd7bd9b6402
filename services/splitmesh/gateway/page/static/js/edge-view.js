/** Owns the view of one edge: its picture, its decisions over time, its operating points, its frames. */

import { ApiError } from "./api.js";
import { el, setAttribute, setText } from "./dom.js";
import { tone } from "./fleet-view.js";
import * as format from "./format.js";
import { FramesTable } from "./frames-table.js";
import { LabPanel } from "./lab.js";
import { Pareto } from "./pareto.js";
import { card, health, intervalInWords, legend, showHealth, showLegend, showStack, stack, tiles } from "./parts.js";
import { PreviewPanel } from "./preview.js";
import { Ring } from "./ring.js";
import { StoryDialog } from "./story.js";
import { Timeline } from "./timeline.js";
import { WhatIfPanel } from "./what-if.js";

const KEPT_FRAMES = 3000;
const PREVIEW_FPS = 5;
const SHOWN_DECISIONS = 150;
const RETRY_MS = 3000;

export class EdgeView {
  /** @param {import("./api.js").Api} api @param {import("./socket.js").LiveSocket} socket @param {string} name */
  constructor(api, socket, name) {
    this.api = api;
    this.socket = socket;
    this.name = name;
    this.title = name;
    /** @type {Ring<import("./types.js").Frame>} */
    this.frames = new Ring(KEPT_FRAMES);
    this.runId = "";
    this.closed = false;
    this.badge = health();
    this.facts = el("span", { class: "soft" });
    this.notice = el("p", { class: "notice", role: "status", hidden: true });
    this.tiles = tiles(["In time, 5 s", "Latency p50", "Latency p95", "Answered", "Link", "Sent", "Breaker"]);
    this.bar = stack(true);
    this.legend = legend();
    this.preview = new PreviewPanel(name);
    this.whatIf = new WhatIfPanel(api, name);
    this.timeline = new Timeline(this.frames, (frame) => this.#open(frame));
    this.pareto = new Pareto(this.frames);
    this.table = new FramesTable(this.frames, (frame) => this.#open(frame));
    this.story = new StoryDialog(api, () => this.#address(""));
    this.lab = api.session.lab ? new LabPanel(api, name) : null;
    this.element = this.#layout();
    this.visibility = () => this.#watch();
    document.addEventListener("visibilitychange", this.visibility);
    this.#watch();
    this.#load();
  }

  #layout() {
    const way = el("nav", { "aria-label": "Breadcrumb" }, el("a", { href: "#/" }, "Fleet"), " / ");
    return el(
      "div",
      { class: "view" },
      el("div", { class: "edge-head" }, way, el("h1", {}, this.name), this.badge, this.facts),
      this.notice,
      this.tiles.element,
      el("div", { class: "edge-top" }, this.preview.element, this.whatIf.element),
      card("Timeline", this.timeline.element, el("h3", {}, "Decisions of the last 5 seconds"), this.bar, this.legend),
      el("div", { class: "edge-mid" }, this.pareto.element, this.table.element),
      this.lab?.element,
      this.story.element,
    );
  }

  /** @param {any} message */
  onMessage(message) {
    if (message.type === "fleet") this.#onFleet(message);
    else if (message.type === "frames" && message.edge === this.name) this.#onFrames(message.rows);
    else if (message.type === "watch" && message.edge === this.name) this.#say(`Not watched at the moment: ${message.lost}.`);
  }

  /** @param {{head: import("./types.js").Preview, jpeg: Blob}} preview */
  onPreview(preview) {
    this.preview.show(preview);
  }

  /** @param {string[]} rest of the address: ["frame", id] */
  onAddress([kind, id]) {
    if (kind === "frame" && id) this.story.open(id);
    else this.story.close();
  }

  close() {
    this.closed = true;
    document.removeEventListener("visibilitychange", this.visibility);
    this.socket.want("watch", { type: "unwatch" });
    this.timeline.close();
    this.whatIf.close();
    this.preview.close();
  }

  /** Nobody sees pictures on a hidden tab, and they cost the edge's uplink. */
  #watch() {
    const preview_fps = document.hidden ? 0 : PREVIEW_FPS;
    this.socket.want("watch", { type: "watch", edge: this.name, preview_fps });
  }

  /** What the edge remembers and what it may decide; asked for again until it answers. */
  async #load() {
    try {
      const path = `/api/edges/${encodeURIComponent(this.name)}`;
      const { points } = await this.api.get(`${path}/points`);
      const { rows } = await this.api.get(`${path}/recent`);
      if (this.closed) return;
      this.pareto.setPoints(points);
      const later = this.frames.items.splice(0);
      const known = new Set(later.map((frame) => frame.id));
      this.#onFrames([...rows.filter((/** @type {any} */ row) => !known.has(row.id)), ...later]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.closed) return;
      this.#say(`${this.name} does not answer: ${error.message}.`);
      setTimeout(() => this.closed || this.#load(), RETRY_MS);
    }
  }

  /** @param {import("./types.js").Fleet} fleet */
  #onFleet(fleet) {
    this.lab?.show(fleet);
    const edge = fleet.edges.find(({ name }) => name === this.name);
    if (!edge) return;
    showHealth(this.badge, edge);
    setText(this.facts, `${edge.model} · ${edge.policy} · deadline ${format.ms(edge.deadline_ms)} · runs for ${format.duration(edge.run_s)}`);
    setAttribute(this.facts, "title", `${edge.source}, splitmesh ${edge.version}`);
    showStack(this.bar, edge.decisions);
    showLegend(this.legend, edge.decisions);
    this.whatIf.onEdge(edge);
    this.timeline.deadlineMs = edge.deadline_ms;
    this.#showTiles(edge);
    if (edge.health === "gone") this.#say(`${this.name} is gone: ${edge.why}. What follows is from before.`);
  }

  /** @param {import("./types.js").Edge} edge */
  #showTiles(edge) {
    const [p50, p95, p99] = edge.latency_ms;
    const late = p95 > edge.deadline_ms;
    const budget = edge.uplink_budget_bps ? `budget ${format.bps(edge.uplink_budget_bps)}` : "no budget";
    this.tiles.show([
      { value: format.percent(edge.hit_rate_5s), more: `${format.percent(edge.hit_rate)} of the run`, tone: tone(edge.hit_rate_5s) },
      { value: format.ms(p50), more: `deadline ${format.ms(edge.deadline_ms)}` },
      { value: format.ms(p95), more: `p99 ${format.ms(p99)}`, tone: late ? "warn" : "" },
      { value: `${edge.fps.toFixed(1)} /s`, more: `${edge.in_flight} in flight` },
      { value: format.bps(edge.link.bandwidth_bps), more: intervalInWords(edge.link) },
      { value: format.bps(edge.uplink_bps), more: budget },
      {
        value: edge.breaker || "–",
        more: `γ edge ${edge.gamma_edge.toFixed(2)}, cloud ${edge.gamma_cloud.toFixed(2)}`,
        tone: edge.breaker === "open" ? "bad" : edge.breaker === "half-open" ? "warn" : "",
      },
    ]);
  }

  /** @param {import("./types.js").Frame[]} rows oldest first */
  #onFrames(rows) {
    if (!rows.length) return;
    this.notice.hidden = true;
    const runId = rows[rows.length - 1].id.split(".")[1];
    if (runId !== this.runId) {
      this.runId = runId;
      this.frames.clear();
    }
    this.frames.push(...rows.filter((row) => row.id.split(".")[1] === runId).sort((a, b) => a.captured_ms - b.captured_ms));
    this.table.show();
    this.pareto.show(SHOWN_DECISIONS);
  }

  /** @param {string} text */
  #say(text) {
    this.notice.hidden = false;
    setText(this.notice, text);
  }

  /** @param {import("./types.js").Frame} frame */
  #open(frame) {
    this.#address(`/frame/${encodeURIComponent(frame.id)}`);
  }

  /** @param {string} rest of the address */
  #address(rest) {
    const wanted = `#/edge/${encodeURIComponent(this.name)}${rest}`;
    if (location.hash !== wanted && !this.closed) location.hash = wanted;
  }
}
