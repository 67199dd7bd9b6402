/** Owns how numbers read: with their unit, and with as many digits as mean something. */

const NOTHING = "–";

/** @param {number} value @param {number} [digits] significant digits */
const significant = (value, digits = 3) =>
  value === 0 ? "0" : value.toFixed(Math.max(0, Math.min(2, digits - 1 - Math.floor(Math.log10(Math.abs(value))))));

/**
 * @param {number} value
 * @param {readonly string[]} units each a thousand times the one before
 */
function scaled(value, units) {
  let place = 0;
  let shown = value;
  while (Math.abs(shown) >= 999.5 && place < units.length - 1) {
    shown /= 1000;
    place += 1;
  }
  return `${place === 0 ? Math.round(shown) : significant(shown)} ${units[place]}`;
}

/** An estimate that is open upwards: no uplink carries this. */
const NO_LIMIT_BPS = 1e10;
const RATES = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];

/** Without zeros that say nothing: `1 kB`, not `1.00 kB`. For axes. @param {string} text */
export const short = (text) => text.replace(/\.0+(?= )|(\.\d*?)0+(?= )/, "$1");

/** An interval in the unit that its middle is shown in. @param {import("./types.js").Link} link */
export function range({ bandwidth_bps, low_bps, high_bps }) {
  if (high_bps <= 0) return "";
  const unit = 1000 ** Math.max(0, RATES.indexOf(bps(bandwidth_bps).split(" ")[1]));
  const low = significant(low_bps / unit);
  return high_bps < NO_LIMIT_BPS ? `${low} to ${significant(high_bps / unit)}` : `${low} or more`;
}

/** @param {number} value bits per second; 0: unknown */
export const bps = (value) => (value > 0 ? scaled(value, RATES) : NOTHING);

/** @param {number} value */
export const bytes = (value) => (value > 0 ? scaled(value, ["B", "kB", "MB", "GB"]) : NOTHING);

/** @param {number | null | undefined} value */
export function ms(value) {
  if (value === null || value === undefined || value === 0) return NOTHING;
  if (Math.abs(value) >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${Math.abs(value) < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** @param {number | null} share in [0, 1]; never rounded up to 100 % */
export function percent(share) {
  if (share === null) return NOTHING;
  const shown = Math.floor(share * 1000) / 10;
  return `${share >= 1 || share === 0 ? shown.toFixed(0) : shown.toFixed(1)} %`;
}

/** @param {number} value */
export const count = (value) => value.toLocaleString("en-GB").replaceAll(",", " ");

/** @param {number} value a probability */
export const odds = (value) => value.toFixed(2);

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** @param {number} unixMs time of day of this browser */
export const clock = (unixMs) => new Date(unixMs).toLocaleTimeString("en-GB");

/** A point's name as a decision reads: `SPLIT@n37-64x19x19 temporal-83`. @param {string} name */
export function point(name) {
  if (!name) return NOTHING;
  const [place, ...rest] = name.split("/");
  if (place === "split" && rest.length) return [`SPLIT@${rest[0]}`, ...rest.slice(1)].join(" ");
  return [place.toUpperCase(), ...rest].join(" ");
}
