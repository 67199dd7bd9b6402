/** Owns the list of what happened to members of the mesh, newest first. */

import { el, keyed } from "./dom.js";
import * as format from "./format.js";

const BAD = new Set(["edge-gone", "worker-gone", "breaker-opened", "hit-rate-fell"]);
const GOOD = new Set(["edge-back", "worker-back", "breaker-closed", "hit-rate-recovered", "edge-joined", "worker-joined"]);

/** @type {Record<string, string>} */
const SAYS = {
  "edge-joined": "joined", "edge-restarted": "started again", "edge-finished": "finished", "edge-gone": "is gone",
  "edge-back": "is back", "worker-joined": "joined", "worker-restarted": "started again", "worker-draining": "is draining",
  "worker-gone": "is gone", "worker-back": "is back", "breaker-opened": "opened its breaker", "breaker-closed": "closed its breaker",
  "policy-changed": "has another policy", "hit-rate-fell": "misses deadlines", "hit-rate-recovered": "keeps its deadlines again",
}; // prettier-ignore

export class Events {
  constructor() {
    this.list = el("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
    this.empty = el("p", { class: "soft" }, "Nothing has happened yet.");
    this.element = el("div", {}, this.list, this.empty);
  }

  /** @param {readonly import("./types.js").FleetEvent[]} events newest first */
  show(events) {
    this.empty.hidden = events.length > 0;
    this.list.hidden = events.length === 0;
    keyed(this.list, events, (event) => String(event.number), line, () => {});
  }
}

/** @param {import("./types.js").FleetEvent} event */
function line({ ago_ms, kind, member, detail }) {
  const tone = BAD.has(kind) ? "bad" : GOOD.has(kind) ? "good" : "";
  const at = new Date(Date.now() - ago_ms);
  const says = SAYS[kind] ?? kind.replaceAll("-", " ");
  return el(
    "li",
    { class: tone },
    el("time", { datetime: at.toISOString() }, format.clock(at.getTime())),
    el("i", { "aria-hidden": "true" }),
    el("span", {}, el("strong", {}, member), ` ${says}`, detail && el("span", { class: "soft" }, ` · ${detail}`)),
  );
}
