/** Owns the places where a frame may be answered: their order, their names and their one colour. */

/** @type {readonly {key: string, label: string, means: string}[]} */
export const PLACES = [
  { key: "split", label: "split", means: "head on the edge, tail on a worker" },
  { key: "frame", label: "frame", means: "whole model on a worker" },
  { key: "resumed", label: "resumed", means: "no reply came: the edge ran the tail itself" },
  { key: "local", label: "local", means: "whole model on the edge" },
  { key: "tracked", label: "tracked", means: "carried over from an earlier answer" },
  { key: "shed", label: "shed", means: "dropped before a decision" },
  { key: "expired", label: "expired", means: "no answer could be given" },
];

/** A decision says "track" where an outcome says "tracked". @param {string} place */
export const keyOf = (place) => (place === "track" ? "tracked" : place);

/**
 * Counts by place in the order of PLACES, those of 0 left out.
 *
 * @param {Record<string, number>} counts
 * @returns {{key: string, label: string, means: string, count: number, share: number}[]}
 */
export function shares(counts) {
  const byKey = new Map();
  let total = 0;
  for (const [place, count] of Object.entries(counts)) {
    byKey.set(keyOf(place), (byKey.get(keyOf(place)) ?? 0) + count);
    total += count;
  }
  return PLACES.filter((place) => byKey.get(place.key) > 0).map((place) => {
    const count = byKey.get(place.key);
    return { ...place, count, share: count / total };
  });
}

/** Place of a point's name, `split/…` or `local`. @param {string} point */
export const placeOf = (point) => keyOf(point.split("/")[0]);

/** @type {Map<string, string>} */
let colours = new Map();
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => (colours = new Map()));

/** A colour of base.css for canvases, which know no variables; `name` without its dashes. @param {string} name */
export function colour(name) {
  let found = colours.get(name);
  if (found === undefined) {
    found = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    colours.set(name, found);
  }
  return found;
}
