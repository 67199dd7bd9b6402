/** Owns what only a lab may do: bend its link, kill and restart a worker, slow an edge down. */

import { ApiError } from "./api.js";
import { el, keyed, setAttribute, setText } from "./dom.js";
import { card } from "./parts.js";

export class LabPanel {
  /** @param {import("./api.js").Api} api @param {string} [edge] that is chosen at first */
  constructor(api, edge = "") {
    this.api = api;
    this.wanted = edge;
    this.says = el("p", { class: "says", role: "status" });
    this.factor = field("lab-factor", "Rate, times", { min: "0.01", max: "10", step: "0.01", value: "0.1" });
    this.seconds = field("lab-seconds", "For seconds", { min: "1", max: "600", step: "1", value: "10" });
    this.slowdown = field("lab-slowdown", "Times slower", { min: "1", max: "1000", step: "0.5", value: "5" });
    this.worker = el("select", { id: "lab-worker" });
    this.edge = el("select", { id: "lab-edge" });
    this.element = card("Lab", this.says, this.#controls());
    this.element.classList.add("lab-card");
  }

  /** @param {import("./types.js").Fleet} fleet */
  show(fleet) {
    options(this.worker, fleet.workers);
    options(this.edge, fleet.edges);
    if (!fleet.edges.some(({ name }) => name === this.wanted)) return;
    this.edge.value = this.wanted;
    this.wanted = "";
  }

  #controls() {
    const bend = button("Bend the link", () => this.#do("bend-link", "the link is bent", { factor: +this.factor.input.value, seconds: +this.seconds.input.value }));
    const kill = button("Kill", () => this.#do("kill-worker", `${this.worker.value} is killed`, { worker: this.worker.value }));
    const restart = button("Restart", () => this.#do("restart-worker", `${this.worker.value} starts`, { worker: this.worker.value }));
    const slow = button("Slow down", () => this.#do("slow-edge", `${this.edge.value} is slower`, { edge: this.edge.value, factor: +this.slowdown.input.value }));
    const full = button("Full speed", () => this.#do("slow-edge", `${this.edge.value} is as fast as it is`, { edge: this.edge.value, factor: 1 }));
    kill.classList.add("danger");
    return el(
      "div",
      { class: "lab" },
      el("fieldset", {}, el("legend", {}, "Uplink"), this.factor.row, this.seconds.row, el("div", { class: "actions" }, bend)),
      el("fieldset", {}, el("legend", {}, "Worker"), labelled("lab-worker", "Which", this.worker), el("div", { class: "actions" }, kill, restart)),
      el("fieldset", {}, el("legend", {}, "Edge"), labelled("lab-edge", "Which", this.edge), this.slowdown.row, el("div", { class: "actions" }, slow, full)),
    );
  }

  /** @param {string} action @param {string} done @param {object} body */
  async #do(action, done, body) {
    setAttribute(this.says, "class", "says");
    setText(this.says, "…");
    try {
      await this.api.post(`/api/lab/${action}`, body);
      setText(this.says, done);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setAttribute(this.says, "class", "says bad");
      setText(this.says, error.message);
    }
  }
}

/** @param {string} text @param {() => void} act */
const button = (text, act) => el("button", { type: "button", click: act }, text);

/** @param {string} id @param {string} label @param {import("./dom.js").Attributes} attributes */
function field(id, label, attributes) {
  const input = el("input", { id, type: "number", ...attributes });
  return { input, row: labelled(id, label, input) };
}

/** @param {string} id @param {string} label @param {Element} input */
const labelled = (id, label, input) => el("div", { class: "field wide" }, el("label", { for: id }, label), input);

/** @param {HTMLSelectElement} select @param {readonly {name: string}[]} members */
function options(select, members) {
  const chosen = select.value;
  keyed(select, members, (each) => each.name, ({ name }) => el("option", { value: name }, name), () => {});
  if (members.some(({ name }) => name === chosen)) select.value = chosen;
}
