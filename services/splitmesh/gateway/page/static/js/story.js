/** Owns the story of one frame: the decision in words, its rivals, and its spans as a waterfall across processes. */

import { ApiError } from "./api.js";
import { el } from "./dom.js";
import * as format from "./format.js";
import { place } from "./parts.js";

/** @typedef {import("./types.js").Story} Story */

export class StoryDialog {
  /** @param {import("./api.js").Api} api @param {() => void} closed */
  constructor(api, closed) {
    this.api = api;
    this.frameId = "";
    this.heading = el("h2", { id: "story-heading" });
    this.content = el("div");
    const close = el("button", { type: "button", click: () => this.element.close() }, "Close");
    this.element = el("dialog", { "aria-labelledby": "story-heading", close: () => { this.frameId = ""; closed(); } },
      el("header", {}, this.heading, close), this.content); // prettier-ignore
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
  }

  /** @param {string} frameId */
  async open(frameId) {
    if (this.frameId === frameId) return;
    this.frameId = frameId;
    this.heading.textContent = `Frame ${frameId.split(".").pop()}`;
    this.content.replaceChildren(el("p", { class: "soft", role: "status" }, "Asking the edge and its worker…"));
    if (!this.element.open) this.element.showModal();
    try {
      const story = await this.api.get(`/api/frames/${encodeURIComponent(frameId)}`);
      if (this.frameId === frameId) this.content.replaceChildren(...parts(story));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.content.replaceChildren(el("p", { class: "notice", role: "alert" }, `Nobody remembers this frame: ${error.message}.`));
    }
  }

  close() {
    if (this.element.open) this.element.close();
  }
}

/** @param {Story} story */
function parts(story) {
  return [
    el("section", { class: "words", "aria-label": "In words" }, ...story.words.map((text) => el("p", {}, text)), el("p", { class: story.frame.hit ? "soft" : "miss" }, story.end)),
    spansPart(story),
    forecastsPart(story),
    factsPart(story),
  ];
}

/** @param {Story} story */
function spansPart({ spans, frame }) {
  const heading = el("h3", {}, "Where the time went");
  if (!spans.length) {
    return el("section", {}, heading, el("p", { class: "soft" }, "No spans: this frame was not traced, or it is too long ago."));
  }
  const end = Math.max(...spans.map((span) => span.start_ms + span.duration_ms), 1);
  const length = frame.deadline_ms < end * 1.6 ? Math.max(end, frame.deadline_ms) * 1.02 : end;
  const rows = spans.map((span) => spanRow(span, length, frame.deadline_ms));
  const moved = spans.find((span) => Math.abs(span.moved_ms) >= 0.05);
  const note = moved && el("p", { class: "soft" }, `The clock of ${moved.instance} is set ${Math.abs(moved.moved_ms).toFixed(1)} ms ${moved.moved_ms > 0 ? "later" : "earlier"} here, so that its spans fit the request they served.`);
  return el("section", {}, heading, el("ol", { class: "waterfall" }, ...rows), note);
}

/** @param {import("./types.js").Span} span @param {number} length ms of a full lane @param {number} deadlineMs */
function spanRow(span, length, deadlineMs) {
  const bar = el("i", { class: span.error ? "failed" : span.service });
  bar.style.left = `${(100 * Math.max(0, span.start_ms)) / length}%`;
  bar.style.width = `${Math.min(100, (100 * span.duration_ms) / length)}%`;
  const lane = el("span", { class: "lane", "aria-hidden": "true" }, bar);
  if (deadlineMs <= length) {
    const mark = el("i", { class: "deadline" });
    mark.style.left = `${(100 * deadlineMs) / length}%`;
    lane.append(mark);
  }
  const name = el("span", {}, span.name);
  name.style.paddingLeft = `${span.depth * 0.85}rem`;
  const told = Object.entries(span.attributes).map(([key, value]) => `${key.replace("splitmesh.", "")}: ${value}`);
  return el(
    "li",
    { title: [span.error, ...told].filter(Boolean).join("\n"), "data-service": span.service },
    el("span", { class: "who" }, name, el("span", { class: "soft" }, span.instance || span.service)),
    el("span", { class: "n" }, `${span.duration_ms.toFixed(span.duration_ms < 10 ? 2 : 1)} ms`),
    lane,
  );
}

/** @param {Story} story */
function forecastsPart({ chosen, runners_up }) {
  if (!chosen.point) return el("section");
  const head = ["Point", "Predicted", "P(in time)", "Utility"].map((name, n) => el("th", { scope: "col", class: n ? "n" : "" }, name));
  const rows = [chosen, ...runners_up].map((each, n) =>
    el(
      "tr",
      { class: n ? "" : "chosen" },
      el("th", { scope: "row" }, place(each.point.split("/")[0], format.point(each.point)), n ? "" : el("span", { class: "soft" }, " chosen")),
      ...[format.ms(each.predicted_ms), format.odds(each.p_hit), each.utility.toFixed(3)].map((text) => el("td", { class: "n" }, text)),
    ),
  );
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
  return el("section", {}, el("h3", {}, "Decision and runners-up"), el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Runners-up" }, table));
}

/** @param {Story} story */
function factsPart({ frame, times_ms, trace_id }) {
  /** @type {[string, string][]} */
  const facts = [
    ["answered", frame.outcome],
    ["link then", format.bps(frame.link.bandwidth_bps)],
    ["base delay", format.ms(frame.link.base_ms)],
    ["on the way", format.bytes(frame.link.backlog_bytes)],
    ["sent", format.bytes(frame.bytes)],
    ["worker", frame.worker || "–"],
    ...Object.entries(times_ms).map(([name, value]) => /** @type {[string, string]} */ ([name.replaceAll("_", " "), format.ms(value)])),
    ["frame id", frame.id],
    ["trace", trace_id || "–"],
  ];
  return el("section", {}, el("h3", {}, "Measured"), el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
}
