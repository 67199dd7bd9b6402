/** Owns trying other settings on an edge's newest observation, and applying them once confirmed. */

import { ApiError } from "./api.js";
import { el, keyed, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { card } from "./parts.js";

const WAIT_MS = 200;
const AGAIN_MS = 2000;
/** While nothing is tried: each answer costs some uplink. */
const IDLE_MS = 10_000;
const RIVALS = 3;

/** @typedef {import("./types.js").Policy} Policy */

export class WhatIfPanel {
  /** @param {import("./api.js").Api} api @param {string} edge */
  constructor(api, edge) {
    this.api = api;
    this.path = `/api/edges/${encodeURIComponent(edge)}`;
    this.edge = edge;
    /** @type {Policy | null} */
    this.policy = null;
    this.asked = new AbortController();
    this.timer = 0;
    this.known = "";
    const changed = () => this.#changed();
    this.deadline = el("input", { type: "number", id: "what-if-deadline", min: 1, max: 60000, step: 1, input: () => this.#slide(), required: true });
    this.slider = el("input", { type: "range", min: 10, max: 1000, step: 5, "aria-label": "Deadline in milliseconds", input: () => { this.deadline.value = this.slider.value; changed(); } }); // prettier-ignore
    this.budget = el("input", { type: "number", id: "what-if-budget", min: 0, step: "any", input: changed, required: true });
    this.select = el("select", { id: "what-if-policy", change: changed });
    this.now = verdict("As it is");
    this.then = verdict("As it would be");
    this.says = el("p", { class: "says", role: "status" });
    this.apply = el("button", { type: "submit", class: "primary", disabled: true }, "Apply…");
    this.reset = el("button", { type: "button", disabled: true, click: () => this.#reset() }, "Reset");
    this.audit = el("ol", { class: "audit" });
    this.confirm = new Confirm();
    this.element = this.#layout();
    this.#load();
  }

  close() {
    clearTimeout(this.timer);
    this.asked.abort();
  }

  /** Somebody else may have changed it. @param {import("./types.js").Edge} edge */
  onEdge({ policy, deadline_ms, uplink_budget_bps }) {
    const seen = `${policy} ${deadline_ms} ${uplink_budget_bps}`;
    if (this.known && this.known !== seen) this.#load();
    this.known = seen;
  }

  #layout() {
    const form = el(
      "form",
      { submit: (/** @type {Event} */ event) => { event.preventDefault(); this.#confirm(); } }, // prettier-ignore
      el("div", { class: "field wide" }, el("label", { for: "what-if-policy" }, "Policy"), this.select),
      el("div", { class: "field" }, el("label", { for: "what-if-deadline" }, "Deadline"), this.slider, el("span", { class: "unit" }, this.deadline, "ms")),
      el("div", { class: "field wide" }, el("label", { for: "what-if-budget" }, "Uplink budget"), el("span", { class: "unit" }, this.budget, "kbit/s (0: none)")),
      el("div", { class: "verdict" }, this.now.element, this.then.element),
      this.says,
      el("div", { class: "actions" }, this.apply, this.reset),
    );
    const changes = el("details", {}, el("summary", {}, "Changes so far"), this.audit);
    const made = card("What if", form, changes, this.confirm.element);
    made.classList.add("what-if");
    return made;
  }

  async #load() {
    try {
      this.#show(await this.api.get(`${this.path}/policy`));
      await this.#ask();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @param {Policy} policy */
  #show(policy) {
    this.policy = policy;
    this.known = `${policy.policy} ${policy.deadline_ms} ${policy.uplink_budget_bps}`;
    const known = [...new Set([policy.policy, ...policy.known_policies])];
    keyed(this.select, known, (name) => name, (name) => el("option", { value: name }, name), () => {});
    const lines = policy.changes.map((each) => `${format.clock(each.unix_ms)} ${each.actor}: ${each.before} → ${each.after}`);
    keyed(this.audit, lines.length ? lines : ["None."], (text) => text, (text) => el("li", {}, text), () => {});
    this.#fill(policy);
  }

  /** @param {Policy} policy */
  #fill(policy) {
    this.select.value = policy.policy;
    this.deadline.value = String(Math.round(policy.deadline_ms * 10) / 10);
    this.slider.value = this.deadline.value;
    this.budget.value = String(policy.uplink_budget_bps / 1000);
    this.#enable();
  }

  #slide() {
    this.slider.value = this.deadline.value;
    this.#changed();
  }

  #reset() {
    if (this.policy) this.#fill(this.policy);
    this.#changed();
  }

  /** What differs from how it is. */
  #change() {
    const { policy } = this;
    if (!policy) return {};
    /** @type {Record<string, string | number>} */
    const change = {};
    if (this.select.value !== policy.policy) change.policy = this.select.value;
    if (Math.abs(+this.deadline.value - policy.deadline_ms) >= 0.1) change.deadline_ms = +this.deadline.value;
    if (Math.abs(+this.budget.value * 1000 - policy.uplink_budget_bps) >= 1) change.uplink_budget_bps = +this.budget.value * 1000;
    return change;
  }

  #valid() {
    return this.deadline.checkValidity() && this.budget.checkValidity();
  }

  #enable() {
    const changes = Object.keys(this.#change()).length > 0;
    this.apply.disabled = !changes || !this.#valid();
    this.reset.disabled = !changes;
  }

  #changed() {
    this.#enable();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), WAIT_MS);
  }

  /** Decide the newest observation both ways; again and again, for the world moves on. */
  async #ask() {
    clearTimeout(this.timer);
    this.asked.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    if (!this.#valid()) {
      this.#say("The deadline is 1 to 60 000 ms, the budget 0 or more.", true);
      return;
    }
    try {
      const answer = await this.api.post(`${this.path}/what-if`, this.#change(), signal);
      if (!signal.aborted) this.#decided(answer);
    } catch (error) {
      if (signal.aborted) return;
      this.#fail(error);
    }
    if (signal.aborted) return;
    const waitMs = Object.keys(this.#change()).length ? AGAIN_MS : IDLE_MS;
    this.timer = setTimeout(() => this.#askIfSeen(), waitMs);
  }

  #askIfSeen() {
    if (document.hidden) this.timer = setTimeout(() => this.#askIfSeen(), AGAIN_MS);
    else this.#ask();
  }

  /** @param {import("./types.js").WhatIf} answer */
  #decided({ now, then, observed_ms_ago }) {
    showVerdict(this.now, now, false);
    const differs = now.chosen.point !== then.chosen.point;
    showVerdict(this.then, then, differs);
    const changes = Object.keys(this.#change()).length > 0;
    const said = !changes ? "Move a setting to see what it would change." : differs ? "This frame would have been decided otherwise." : "This frame would have been decided the same.";
    this.#say(`${said} Seen ${format.ms(Math.max(observed_ms_ago, 0.1))} ago.`);
  }

  /** @param {string} text */
  #say(text, bad = false) {
    setAttribute(this.says, "class", bad ? "says bad" : "says");
    setText(this.says, text);
  }

  /** @param {unknown} error */
  #fail(error) {
    if (!(error instanceof ApiError)) throw error;
    this.#say(error.message, true);
  }

  async #confirm() {
    const change = this.#change();
    const { policy } = this;
    if (!policy || !Object.keys(change).length) return;
    const lines = [
      "policy" in change ? `policy: ${policy.policy} → ${change.policy}` : "",
      "deadline_ms" in change ? `deadline: ${format.ms(policy.deadline_ms)} → ${format.ms(+change.deadline_ms)}` : "",
      "uplink_budget_bps" in change ? `uplink budget: ${budget(policy.uplink_budget_bps)} → ${budget(+change.uplink_budget_bps)}` : "",
    ].filter(Boolean);
    if (!(await this.confirm.ask(`Change ${this.edge}?`, lines))) return;
    try {
      this.#show(await this.api.post(`${this.path}/policy`, change));
      this.#say("Applied.");
      await this.#ask();
    } catch (error) {
      this.#fail(error);
    }
  }
}

/** @param {number} bps */
const budget = (bps) => (bps > 0 ? format.bps(bps) : "none");

/** A question that is answered with yes or no. */
class Confirm {
  constructor() {
    this.heading = el("h2", { id: "confirm-heading" });
    this.lines = el("ul");
    this.answer = (/** @type {boolean} */ _) => {};
    const yes = el("button", { type: "button", class: "primary", click: () => this.#close(true) }, "Apply");
    const no = el("button", { type: "button", click: () => this.#close(false) }, "Cancel");
    const note = el("p", { class: "soft" }, "It holds from the next frame on and is written to the audit.");
    this.element = el("dialog", { class: "small", "aria-labelledby": "confirm-heading", close: () => this.answer(false) },
      el("header", {}, this.heading), el("div", {}, this.lines, note, el("div", { class: "actions" }, yes, no))); // prettier-ignore
  }

  /** @param {string} question @param {string[]} lines @returns {Promise<boolean>} */
  ask(question, lines) {
    this.heading.textContent = question;
    this.lines.replaceChildren(...lines.map((text) => el("li", {}, text)));
    this.element.showModal();
    return new Promise((resolve) => (this.answer = resolve));
  }

  /** @param {boolean} said */
  #close(said) {
    this.answer(said);
    this.element.close();
  }
}

/** @param {string} heading */
function verdict(heading) {
  const point = el("p", { class: "point" }, "–");
  const forecast = el("p");
  const reason = el("p");
  const rivals = el("ul", { class: "rivals" });
  return { element: el("div", {}, el("h3", {}, heading), point, forecast, reason, rivals), point, forecast, reason, rivals };
}

/** @param {ReturnType<typeof verdict>} shown @param {import("./types.js").Decided} decided @param {boolean} differs */
function showVerdict(shown, { chosen, reason, runners_up }, differs) {
  setAttribute(shown.element, "class", differs ? "changed" : null);
  setText(shown.point, format.point(chosen.point));
  setText(shown.forecast, `${format.ms(chosen.predicted_ms)} predicted, in time with p=${format.odds(chosen.p_hit)}`);
  setText(shown.reason, reason);
  const lines = runners_up.slice(0, RIVALS).map((each) => `${format.point(each.point)}: ${format.ms(each.predicted_ms)}, p=${format.odds(each.p_hit)}`);
  shown.rivals.replaceChildren(...lines.map((text) => el("li", {}, text)));
}
