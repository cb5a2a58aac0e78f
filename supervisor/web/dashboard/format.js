// @ts-check
/** Figures as people read them. Pure: nothing here knows of the page. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** @param {number} bytes @returns {{value: string, unit: string}} */
function scaled(bytes) {
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const shown = Number(value.toFixed(value >= 100 ? 0 : 1)); // a decimal where it says something
  return { value: String(bytes < 0 ? -shown : shown), unit: UNITS[unit] };
}

/** `5.1 GiB`, with a space that does not break. @param {number} bytes */
export function size(bytes) {
  const { value, unit } = scaled(bytes);
  return `${value}\u00a0${unit}`;
}

/** `5.1 of 8 GiB`: the unit once where both have it. @param {number} used @param {number} total */
export function sizeOf(used, total) {
  const [one, all] = [scaled(used), scaled(total)];
  return one.unit === all.unit || used === 0
    ? `${one.value} of ${all.value}\u00a0${all.unit}`
    : `${one.value}\u00a0${one.unit} of ${all.value}\u00a0${all.unit}`;
}

const PARTS = /** @type {const} */ ([
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
]);

/** The two largest parts of a time: `1 h 12 min`, `45 s`, `0.3 s`. @param {number} seconds @returns {string} */
export function span(seconds) {
  if (seconds < 0) return `-${span(-seconds)}`;
  if (seconds < 9.95 && seconds > 0) return `${Number(seconds.toFixed(1))}\u00a0s`;
  let left = Math.round(seconds);
  if (left >= 86400) left -= left % 3600;
  else if (left >= 3600) left -= left % 60;
  const words = [];
  for (const [unit, length] of PARTS) {
    const whole = Math.floor(left / length);
    left -= whole * length;
    if (whole > 0) words.push(`${whole}\u00a0${unit}`);
  }
  return words.slice(0, 2).join(" ") || "0\u00a0s";
}

/** A time that is only foreseen, without what it cannot know: `24 min`. @param {number} seconds */
export function about(seconds) {
  return span(seconds < 120 ? seconds : Math.round(seconds / 60) * 60);
}

/** `1 h 12 min of 6 h`. @param {number} one @param {number} all */
export function spanOf(one, all) {
  return `${span(one)} of ${span(all)}`;
}

/** A share of 1 as whole percent: `87 %`; never 100 for what is a little less. @param {number} share */
export function percent(share) {
  const whole = Math.round(share * 100);
  return `${share < 1 ? Math.min(whole, 99) : whole}\u00a0%`;
}

const two = (/** @type {number} */ number) => String(number).padStart(2, "0");

/** The time of day here: `03:07:41`. @param {number} wallS Unix time */
export function clock(wallS) {
  const at = new Date(wallS * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** The time of day, with the weekday or the date where it is not of today. @param {number} wallS @param {number} nowS */
export function moment(wallS, nowS) {
  const [at, now] = [new Date(wallS * 1000), new Date(nowS * 1000)];
  if (at.toDateString() === now.toDateString()) return clock(wallS);
  if (Math.abs(nowS - wallS) < 6 * 86400) return `${DAYS[at.getDay()]} ${clock(wallS)}`;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(wallS)}`;
}

/** @param {number} number @param {string} one @param {string} [many] */
export function count(number, one, many = `${one}s`) {
  return `${number}\u00a0${number === 1 ? one : many}`;
}

/** A field of a notice by the unit that its name carries. @param {string} key @param {unknown} value */
export function field(key, value) {
  if (value === null || value === undefined) return "unknown";
  if (typeof value !== "number") return String(value);
  if (key.endsWith("_bytes")) return size(value);
  if (key.endsWith("_s")) return span(value);
  if (key.endsWith("_percent")) return `${Number(value.toFixed(1))}\u00a0%`;
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
}

/** The name of a field without its unit: `memory_cap_bytes` is `memory cap`. @param {string} key */
export function fieldName(key) {
  return key.replace(/_(bytes|s|percent|c|w)$/, "").replaceAll("_", " ");
}

/**
 * Cut a sentence at its backticks, so that commands can be set as code.
 * @param {string} text @returns {{text: string, code: boolean}[]}
 */
export function pieces(text) {
  return text
    .split("`")
    .map((part, index, all) => ({ text: part, code: index % 2 === 1 && index < all.length - 1 }))
    .filter((part) => part.text !== "");
}
