// @ts-check
/** How full the machine is, and what has to be said of it. Pure. */

import { percent } from "./format.js";

/** @import {Status, Host, Gpu, Worker, Level} from "./types.js" */

/** The shares above which the banner is shown, and above which it is red. */
export const WARN_SHARE = 0.8;
export const ALARM_SHARE = 0.85;

/** @type {Level[]} */
export const LEVELS = ["normal", "high", "critical", "extreme"];

/** @param {Host} host @returns {number | null} what is used, as a share of 1 */
export function hostShare(host) {
  const { memory_total_bytes: total, memory_available_bytes: available } = host;
  return total === null || available === null || total === 0 ? null : (total - available) / total;
}

/** @param {Gpu} gpu @returns {number | null} what is used, as a share of 1 */
export function gpuShare(gpu) {
  const { memory_total_bytes: total, memory_used_bytes: used } = gpu;
  return total === null || used === null || total === 0 ? null : used / total;
}

/**
 * @typedef {object} Banner
 * @property {"high" | "critical"} level
 * @property {string} title what is full
 * @property {string} degradation how far the workers have stepped back
 * @property {string} key changes only when it is worth saying aloud
 */

/** Return what the banner says, or null below 80 %. @param {Status} status @returns {Banner | null} */
export function banner(status) {
  const full = subjects(status).filter((one) => one.share > WARN_SHARE);
  if (full.length === 0) return null;
  full.sort((one, two) => two.share - one.share);
  const level = full[0].share > ALARM_SHARE ? "critical" : "high";
  const parts = full.map((one) => `${one.name} memory at ${percent(one.share)}, pressure ${one.pressure}`);
  const key = [level, ...full.map((one) => `${one.name} ${one.pressure}`).sort()].join();
  return { level, title: parts.join(" · "), degradation: degradation(status.workers), key };
}

/** @param {Status} status @returns {{name: string, share: number, pressure: Level}[]} */
function subjects(status) {
  const host = hostShare(status.host);
  const all = status.gpus.map((gpu) => ({
    name: `GPU ${gpu.index}`,
    share: gpuShare(gpu),
    pressure: gpu.pressure,
  }));
  all.unshift({ name: "Host", share: host, pressure: status.host.pressure });
  return all.flatMap((one) => (one.share === null ? [] : [{ ...one, share: one.share }]));
}

/** How far the workers have stepped back: rungs of their ladders, levels that they report. @param {Worker[]} workers */
export function degradation(workers) {
  const words = workers.flatMap((one) => {
    const level = one.reported?.level ?? "normal";
    const steps = one.reported?.memory?.degradation_level ?? 0;
    const said = [
      one.rung > 0 ? `rung ${one.rung}` : "",
      level === "normal" ? "" : `reports ${level}`,
      steps > 0 ? `${steps} ${steps === 1 ? "step" : "steps"} down` : "",
    ].filter(Boolean);
    return said.length
      ? [{ text: `${one.name} (${said.join(", ")})`, weight: one.rung * 10 + steps + LEVELS.indexOf(level) }]
      : [];
  });
  if (words.length === 0) return "No worker is degraded.";
  words.sort((one, two) => two.weight - one.weight);
  const more = words.length > 4 ? ` · and ${words.length - 4} more` : "";
  return `Degraded: ${words
    .slice(0, 4)
    .map((one) => one.text)
    .join(" · ")}${more}`;
}
