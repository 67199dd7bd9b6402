/** Owns the small parts that several views show: health, stacked bars, link intervals, tiles, cards. */

import { el, keyed, setAttribute, setText, svg } from "./dom.js";
import * as format from "./format.js";
import { keyOf, shares } from "./places.js";

/** @returns {HTMLSpanElement} */
export const health = () => el("span", { class: "health" });

/** @param {Element} badge @param {{health: import("./types.js").Health, why: string}} member */
export function showHealth(badge, { health: state, why }) {
  setAttribute(badge, "class", `health ${state}`);
  setAttribute(badge, "title", why);
  setText(badge, state);
}

/** A bar of the shares of places. @param {boolean} [tall] */
export const stack = (tall = false) => el("div", { class: tall ? "stack tall" : "stack", role: "img" });

/** @param {Element} bar @param {Record<string, number>} counts by place or outcome */
export function showStack(bar, counts) {
  const parts = shares(counts);
  setAttribute(bar, "aria-label", parts.map((part) => `${part.label} ${format.percent(part.share)}`).join(", ") || "nothing");
  setAttribute(bar, "title", bar.getAttribute("aria-label"));
  keyed(
    bar,
    parts,
    (part) => part.key,
    (part) => el("span", { class: part.key }),
    (part, { share }) => (part.style.flexGrow = share.toFixed(4)),
  );
}

/** @returns {HTMLUListElement} */
export const legend = () => el("ul", { class: "legend" });

/** @param {Element} list @param {Record<string, number>} counts */
export function showLegend(list, counts) {
  keyed(
    list,
    shares(counts),
    (part) => part.key,
    (part) => el("li", { title: part.means }, el("i", { class: `swatch ${part.key}` }), `${part.label} `, el("b")),
    (item, part) => setText(/** @type {Element} */ (item.lastElementChild), format.percent(part.share)),
  );
}

/** @param {string} place @param {string} [text] */
export const place = (place, text = place) =>
  el("span", { class: "place" }, el("i", { class: `swatch ${keyOf(place)}` }), text);

const LOW_BPS = 3e4;
const HIGH_BPS = 3e8;

/** Where a rate lies between 30 kbit/s and 300 Mbit/s, on a logarithmic scale. @param {number} bps */
const onScale = (bps) =>
  4 + 110 * Math.min(1, Math.max(0, Math.log(Math.max(bps, 1) / LOW_BPS) / Math.log(HIGH_BPS / LOW_BPS)));

/** A rate with its 80 % interval, as text and on a scale. */
export const interval = () =>
  el(
    "div",
    {},
    el("div", { class: "nowrap" }, el("span"), el("span", { class: "soft" })),
    svg(
      "svg",
      { class: "interval", viewBox: "0 0 118 10", "aria-hidden": "true" },
      svg("line", { class: "rail", x1: 4, x2: 114, y1: 5, y2: 5 }),
      svg("line", { class: "band", y1: 5, y2: 5 }),
      svg("circle", { class: "best", cy: 5, r: 3 }),
    ),
  );

/** @param {Element} shown of `interval` @param {import("./types.js").Link} link */
export function showInterval(shown, link) {
  const [text, picture] = shown.children;
  const known = link.high_bps > 0;
  setText(text.children[0], format.bps(link.bandwidth_bps));
  setText(text.children[1], known ? ` ${format.range(link)}` : "");
  setAttribute(shown, "title", known ? intervalInWords(link) : "");
  const [, band, best] = picture.children;
  setAttribute(picture, "visibility", link.bandwidth_bps > 0 ? "visible" : "hidden");
  setAttribute(band, "x1", onScale(known ? link.low_bps : link.bandwidth_bps).toFixed(1));
  setAttribute(band, "x2", onScale(known ? link.high_bps : link.bandwidth_bps).toFixed(1));
  setAttribute(best, "cx", onScale(link.bandwidth_bps).toFixed(1));
}

/** @param {import("./types.js").Link} link */
export const intervalInWords = (link) =>
  link.high_bps > 0 ? `${format.range(link)} (80 %)` : "interval unknown";

/**
 * Figures in a row. `show(values)` takes one {value, unit, more, tone} per name.
 *
 * @param {readonly string[]} names
 */
export function tiles(names) {
  const parts = names.map((name) => {
    const value = el("span", { class: "value" });
    const more = el("span", { class: "more" });
    const tile = el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, el("div", {}, more)));
    return { tile, value, more };
  });
  const element = el("dl", { class: "tiles" }, ...parts.map((part) => part.tile));
  return {
    element,
    /** @param {readonly {value: string, more?: string, tone?: "" | "warn" | "bad"}[]} values */
    show(values) {
      values.forEach(({ value, more = "", tone = "" }, place) => {
        setAttribute(parts[place].tile, "class", `tile ${tone}`.trim());
        setText(parts[place].value, value);
        setText(parts[place].more, more);
      });
    },
  };
}

/** @param {string} title @param {...import("./dom.js").Child} children @returns {HTMLElement} */
export function card(title, ...children) {
  const id = `card-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  return el("section", { class: "card", "aria-labelledby": id }, el("header", {}, el("h2", { id }, title)), ...children);
}
