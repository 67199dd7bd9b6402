/** Owns the picture of the mesh: edges, broker, workers, and how much flows between them. */

import { el, keyed, setAttribute, setText, svg } from "./dom.js";
import * as format from "./format.js";
import { shares } from "./places.js";

/** Where things stand, and how many letters of a name there is room for. */
const WIDE = { width: 760, edgeX: 196, brokerX: 430, workerX: 604, letters: 24 };
const NARROW = { width: 390, edgeX: 128, brokerX: 210, workerX: 290, letters: 12 };
const NARROW_BELOW_PX = 520;
const ROW = 46;
const MOST = 7;
const RADIUS = 13;
const TURN = 2 * Math.PI * RADIUS;

/** Members in trouble first, then by name; as many as there is room for. @template {{health: string}} M @param {readonly M[]} members */
function pick(members) {
  const urgency = { gone: 0, degraded: 1, alive: 2 };
  if (members.length <= MOST) return [...members];
  return [...members].sort((a, b) => urgency[/** @type {"gone"} */ (a.health)] - urgency[/** @type {"gone"} */ (b.health)]).slice(0, MOST);
}

export class Topology {
  constructor() {
    this.flows = svg("g");
    this.edges = svg("g");
    this.workers = svg("g");
    this.brokerName = svg("text", { class: "name", "text-anchor": "middle" }, "broker");
    this.broker = svg("g", {}, svg("rect", { class: "node", x: -34, y: -15, width: 68, height: 30, rx: 8 }), this.brokerName);
    this.picture = svg("svg", { class: "topology", role: "img" }, this.flows, this.broker, this.edges, this.workers);
    setAttribute(this.brokerName, "y", 4);
    this.more = el("p", { class: "soft" });
    this.element = el("div", {}, this.picture, this.more);
    this.place = WIDE;
  }

  /** @param {import("./types.js").Fleet} fleet */
  show(fleet) {
    const { width, brokerX, edgeX, workerX } = (this.place = this.element.clientWidth < NARROW_BELOW_PX ? NARROW : WIDE);
    const edges = pick(fleet.edges);
    const workers = pick(fleet.workers);
    const height = Math.max(2, edges.length, workers.length) * ROW + 14;
    const middle = height / 2;
    setAttribute(this.picture, "viewBox", `0 0 ${width} ${height}`);
    setAttribute(this.picture, "aria-label", inWords(fleet));
    setAttribute(this.broker, "transform", `translate(${brokerX} ${middle})`);
    const edgeY = rows(edges.length, height);
    const workerY = rows(workers.length, height);
    keyed(this.edges, edges, (edge) => edge.name, edgeNode, (node, edge) => showEdge(node, edge, edgeY[edges.indexOf(edge)], this.place));
    keyed(this.workers, workers, (worker) => worker.name, workerNode, (node, worker) =>
      showWorker(node, worker, workerY[workers.indexOf(worker)], this.place),
    );
    const flows = [
      ...edges.map((edge, n) => ({ key: `edge ${edge.name}`, ...edgeFlow(edge), from: [edgeX + 18, edgeY[n]], to: [brokerX - 36, middle] })),
      ...workers.map((worker, n) => ({
        key: `worker ${worker.name}`, bps: 0, colour: "", gone: worker.health === "gone",
        from: [brokerX + 36, middle], to: [workerX - 18, workerY[n]],
      })), // prettier-ignore
    ];
    keyed(this.flows, flows, (flow) => flow.key, () => svg("path"), showFlow);
    const left = fleet.edges_found - edges.length;
    this.more.hidden = left <= 0;
    setText(this.more, `and ${format.count(left)} more edges`);
  }
}

/** @param {number} howMany @param {number} height @returns {number[]} */
const rows = (howMany, height) => Array.from({ length: howMany }, (_, n) => ((n + 0.5) * height) / howMany);

/** @param {import("./types.js").Edge} edge */
function edgeFlow(edge) {
  const { split = 0, frame = 0 } = edge.decisions;
  return { bps: edge.health === "gone" ? 0 : edge.uplink_bps, colour: split >= frame ? "split" : "frame", gone: edge.health === "gone" };
}

/**
 * As wide as the square root of what flows: ten times the rate is about three times the width.
 *
 * @param {SVGElement} path
 * @param {{bps: number, colour: string, gone: boolean, from: number[], to: number[]}} flow
 */
function showFlow(path, { bps, colour, gone, from, to }) {
  const half = (from[0] + to[0]) / 2;
  setAttribute(path, "d", `M${from} C${half},${from[1]} ${half},${to[1]} ${to}`);
  setAttribute(path, "class", bps > 0 ? "flow moving" : "wire");
  setAttribute(path, "visibility", gone ? "hidden" : "visible");
  path.style.stroke = bps > 0 ? `var(--${colour})` : "";
  path.style.strokeWidth = bps > 0 ? Math.min(10, 1.2 + Math.sqrt(bps / 1e5)).toFixed(1) : "";
}

function edgeNode() {
  const ring = svg("g", { transform: "rotate(-90)" });
  const name = svg("text", { class: "name", x: -22, y: -1, "text-anchor": "end" });
  const says = svg("text", { x: -22, y: 12, "text-anchor": "end" });
  return svg("g", {}, svg("circle", { class: "node", r: RADIUS - 4 }), ring, name, says);
}

/**
 * A ring of the decisions around each edge.
 *
 * @param {SVGElement} node
 * @param {import("./types.js").Edge} edge
 * @param {number} y
 * @param {typeof WIDE} place
 */
function showEdge(node, edge, y, { edgeX, letters }) {
  const [core, ring, name, says] = node.children;
  setAttribute(node, "transform", `translate(${edgeX} ${y})`);
  setAttribute(core, "class", `node core ${edge.health}`);
  setText(name, shorten(edge.name, letters));
  const gone = edge.health === "gone";
  const hits = `${format.percent(edge.hit_rate_5s)} in time`;
  const live = letters < WIDE.letters ? hits : `${edge.uplink_bps > 0 ? format.bps(edge.uplink_bps) : "sends nothing"} · ${hits}`;
  setText(says, gone ? edge.why : live);
  setAttribute(says, "class", `is-${edge.health}`);
  let before = 0;
  const parts = (gone ? [] : shares(edge.decisions)).map((part) => {
    const start = before;
    before += part.share;
    return { ...part, start };
  });
  keyed(
    ring,
    parts,
    (part) => part.key,
    () => svg("circle", { r: RADIUS, fill: "none", "stroke-width": 5 }),
    (arc, part) => {
      arc.style.stroke = `var(--${part.key})`;
      setAttribute(arc, "stroke-dasharray", `${(part.share * TURN).toFixed(2)} ${TURN.toFixed(2)}`);
      setAttribute(arc, "stroke-dashoffset", (-part.start * TURN).toFixed(2));
    },
  );
}

function workerNode() {
  const name = svg("text", { class: "name", x: 22, y: -1 });
  const says = svg("text", { x: 22, y: 12 });
  return svg("g", {}, svg("rect", { class: "node core", x: -12, y: -12, width: 24, height: 24, rx: 6 }), name, says);
}

/** @param {SVGElement} node @param {import("./types.js").Worker} worker @param {number} y @param {typeof WIDE} place */
function showWorker(node, worker, y, { workerX, letters }) {
  const [core, name, says] = node.children;
  setAttribute(node, "transform", `translate(${workerX} ${y})`);
  setAttribute(core, "class", `node core ${worker.health}`);
  setText(name, shorten(worker.name, letters));
  const wait = `wait ${worker.wait_ms.toFixed(1)} ms`;
  const live = letters < WIDE.letters ? wait : `${wait} · ${worker.queue_depth} queued`;
  setText(says, worker.health === "gone" ? worker.why : live);
  setAttribute(says, "class", `is-${worker.health}`);
}

/** @param {string} name @param {number} letters */
const shorten = (name, letters) => (name.length > letters ? `${name.slice(0, letters - 1)}…` : name);

/** @param {import("./types.js").Fleet} fleet */
function inWords({ edge_health: edges, worker_health: workers, sums }) {
  const there = (/** @type {Record<string, number>} */ counts) => counts.alive + counts.degraded;
  return `${there(edges)} edges send ${format.bps(sums.uplink_bps)} by way of the broker to ${there(workers)} workers`;
}
