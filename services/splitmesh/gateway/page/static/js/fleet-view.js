/** Owns the first view: the mesh as a whole, its edges, its workers, and what happened lately. */

import { el, keyed, setAttribute, setText } from "./dom.js";
import { Events } from "./events.js";
import * as format from "./format.js";
import { LabPanel } from "./lab.js";
import { card, health, interval, legend, showHealth, showInterval, showLegend, showStack, stack, tiles } from "./parts.js";
import { Topology } from "./topology.js";

const LOW_HIT_RATE = 0.85;
const GOOD_HIT_RATE = 0.95;

/** @param {number | null} share */
export const tone = (share) => (share === null || share >= GOOD_HIT_RATE ? "" : share >= LOW_HIT_RATE ? "warn" : "bad");

export class FleetView {
  title = "Fleet";

  /** @param {import("./api.js").Api} api @param {import("./socket.js").LiveSocket} socket */
  constructor(api, socket) {
    this.socket = socket;
    this.tiles = tiles(["Edges", "Workers", "In time, 5 s", "Answered", "Uplink in use"]);
    this.topology = new Topology();
    this.events = new Events();
    this.bar = stack(true);
    this.legend = legend();
    this.edges = edgeTable();
    this.workers = workerTable();
    this.lab = api.session.lab ? new LabPanel(api) : null;
    this.more = el("p", { class: "soft", role: "status" });
    const edges = card("Edges", scroller("Edges", this.edges.element), this.more);
    edges.firstElementChild?.append(this.#filter());
    this.element = el(
      "div",
      { class: "view" },
      el("h1", { class: "hidden-text" }, "Fleet"),
      this.tiles.element,
      el(
        "div",
        { class: "fleet-top" },
        card("Flows", this.topology.element, el("h3", {}, "Decisions of the last 5 seconds"), this.bar, this.legend),
        card("Events", this.events.element),
      ),
      edges,
      card("Workers", scroller("Workers", this.workers.element)),
      this.lab?.element,
    );
  }

  /** @param {any} message */
  onMessage(message) {
    if (message.type !== "fleet") return;
    /** @type {import("./types.js").Fleet} */
    const fleet = message;
    this.#showTiles(fleet);
    this.topology.show(fleet);
    this.events.show(fleet.events);
    showStack(this.bar, fleet.sums.decisions);
    showLegend(this.legend, fleet.sums.decisions);
    this.edges.show(fleet.edges);
    this.workers.show(fleet.workers);
    this.lab?.show(fleet);
    const hidden = fleet.edges_found - fleet.edges.length;
    setText(this.more, hidden > 0 ? `${format.count(hidden)} more; those in trouble are shown first.` : empty(fleet));
  }

  onPreview() {}

  onAddress() {}

  close() {
    this.socket.want("view", { type: "view", filter: "" });
  }

  /** @param {import("./types.js").Fleet} fleet */
  #showTiles({ edge_health: edges, worker_health: workers, sums }) {
    this.tiles.show([
      { value: format.count(edges.alive + edges.degraded), more: inTrouble(edges), tone: worst(edges) },
      { value: format.count(workers.alive + workers.degraded), more: inTrouble(workers), tone: worst(workers) },
      { value: format.percent(sums.hit_rate), more: "of the frames of all edges", tone: tone(sums.hit_rate) },
      { value: `${sums.fps.toFixed(1)} /s`, more: "frames of all edges" },
      { value: format.bps(sums.uplink_bps), more: "payload of all edges" },
    ]);
  }

  #filter() {
    /** @param {Event} event */
    const changed = (event) =>
      this.socket.want("view", { type: "view", filter: /** @type {HTMLInputElement} */ (event.target).value.slice(0, 64) });
    const input = el("input", { type: "search", placeholder: "part of a name", input: changed, maxlength: 64 });
    return el("label", { class: "filter push" }, el("span", { class: "soft" }, "Show"), input);
  }
}

/** @param {import("./types.js").Fleet} fleet */
function empty(fleet) {
  const known = fleet.edge_health.alive + fleet.edge_health.degraded + fleet.edge_health.gone;
  if (fleet.edges.length) return "";
  return known ? "No edge has that in its name." : "No edge has reported yet: start one with “splitmesh edge”.";
}

/** @param {Record<string, number>} counts */
function inTrouble({ alive, degraded, gone }) {
  const parts = [degraded && `${degraded} degraded`, gone && `${gone} gone`].filter(Boolean);
  return parts.length ? parts.join(", ") : alive ? "all alive" : "none has reported";
}

/** @param {Record<string, number>} counts */
const worst = ({ degraded, gone }) => (gone ? "bad" : degraded ? "warn" : "");

/** @param {string} label @param {Element} table */
export const scroller = (label, table) =>
  el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table);

/**
 * A table with one row per name. `columns` are [heading, class of its cells].
 *
 * @template {{name: string, health: import("./types.js").Health}} M
 * @param {readonly (readonly [string, string])[]} columns
 * @param {(member: M) => Element[]} makeCells
 * @param {(cells: Element[], member: M) => void} update
 */
function memberTable(columns, makeCells, update) {
  const body = el("tbody");
  const head = columns.map(([heading, style]) => el("th", { scope: "col", class: style }, heading));
  const element = el("table", { class: "responsive" }, el("thead", {}, el("tr", {}, ...head)), body);
  /** @param {M} member */
  const make = (member) => {
    const cells = makeCells(member).map((content, place) =>
      place === 0
        ? el("th", { scope: "row" }, content)
        : el("td", { class: columns[place][1], "data-label": columns[place][0] }, content),
    );
    return el("tr", {}, ...cells);
  };
  return {
    element,
    /** @param {readonly M[]} members */
    show: (members) =>
      keyed(body, members, (member) => member.name, make, (row, member) => {
        setAttribute(row, "class", member.health === "gone" ? "is-gone" : null);
        update([...row.children].map((cell) => /** @type {Element} */ (cell.firstElementChild)), member);
      }),
  };
}

/** @param {number} howMany */
const spans = (howMany) => Array.from({ length: howMany }, () => el("span"));

function edgeTable() {
  const columns = /** @type {const} */ ([
    ["Edge", ""], ["State", ""], ["Policy", ""], ["In time", "n"], ["Decisions, 5 s", "full"], ["Latency p50 · p95", "n"],
    ["Deadline", "n"], ["Link, 80 % interval", ""], ["Sent", "n"], ["Breaker", ""], ["Version", ""],
  ]); // prettier-ignore
  return memberTable(
    columns,
    (/** @type {import("./types.js").Edge} */ { name }) => {
      const address = `#/edge/${encodeURIComponent(name)}`;
      return [el("a", { href: address }, name), health(), ...spans(2), stack(), ...spans(2), interval(), ...spans(3)];
    },
    ([, state, policy, hits, bar, latency, deadline, link, sent, breaker, version], edge) => {
      showHealth(state, edge);
      setText(policy, edge.policy);
      setText(hits, format.percent(edge.hit_rate_5s));
      setAttribute(hits, "class", tone(edge.hit_rate_5s) === "bad" ? "miss" : null);
      showStack(bar, edge.decisions);
      setText(latency, `${format.ms(edge.latency_ms[0])} · ${format.ms(edge.latency_ms[1])}`);
      setText(deadline, format.ms(edge.deadline_ms));
      showInterval(link, edge.link);
      setText(sent, format.bps(edge.uplink_bps));
      setText(breaker, edge.breaker || "–");
      setAttribute(breaker, "class", edge.breaker === "open" ? "miss" : null);
      setText(version, edge.version);
    },
  );
}

function workerTable() {
  const columns = /** @type {const} */ ([
    ["Worker", ""], ["State", ""], ["Predicted wait", "n"], ["In queue", "n"], ["Serves", ""], ["Note", "last"],
  ]); // prettier-ignore
  return memberTable(
    columns,
    (/** @type {import("./types.js").Worker} */ { name }) => [el("span", {}, name), health(), ...spans(4)],
    ([, state, wait, queue, models, why], worker) => {
      showHealth(state, worker);
      setText(why, worker.why);
      setText(wait, worker.health === "gone" ? "–" : `${worker.wait_ms.toFixed(1)} ms`);
      setText(queue, worker.health === "gone" ? "–" : worker.queue_depth);
      setText(models, worker.models.map(({ model, cuts }) => `${model} (${cuts} ${cuts === 1 ? "cut" : "cuts"})`).join(", "));
    },
  );
}
