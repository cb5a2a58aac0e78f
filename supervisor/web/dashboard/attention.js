// @ts-check
/** What somebody has to look at, most urgent first, and the one sentence above it. Pure. */

import { about, clock, count, span } from "./format.js";

/** @import {Status, Worker, Gpu, Alert} from "./types.js" */
/** @import {Banner} from "./pressure.js" */
/** @import {Freshness} from "./freshness.js" */

/** GPUs and guards that say nothing for so long are old: several looks without an answer. */
export const OLD_S = 10;

/** Who was restarted is worth a look for so long: a loop with backoff comes round within this. */
const LATELY_S = 600;
/** Restarts that were planned, or asked for. */
const EXPECTED = new Set(["age", "operator", "reload", "ladder", "leak"]);

/** @typedef {{urgency: "critical" | "high" | "info", subject: string, text: string}} Point */

/** @param {Status} status @param {Alert[]} alerts @returns {Point[]} */
export function points(status, alerts) {
  const found = [
    ...alerts.filter((alert) => alert.state === "firing").map(ofAlert),
    ...status.gpus.flatMap(ofGpu),
    ...status.workers.flatMap((worker) => ofWorker(worker, Date.parse(status.taken_at))),
    ...ofDaemon(status),
  ];
  const order = { critical: 0, high: 1, info: 2 };
  return found.sort((one, two) => order[one.urgency] - order[two.urgency]);
}

/** @param {Alert} alert @returns {Point} */
function ofAlert(alert) {
  const urgency = alert.severity === "critical" ? "critical" : alert.severity === "warning" ? "high" : "info";
  return { urgency, subject: alert.name, text: alert.summary };
}

/** @param {Gpu} gpu @returns {Point[]} */
function ofGpu(gpu) {
  const subject = `GPU ${gpu.index}`;
  if (gpu.quarantine) {
    return [{ urgency: "critical", subject, text: `quarantined: ${gpu.quarantine}` }];
  }
  if (gpu.state !== "ok") {
    return [
      { urgency: "critical", subject, text: `${gpu.state}: ${gpu.missing.state ?? "no reason given"}` },
    ];
  }
  if (gpu.read_age_s > OLD_S) {
    return [
      { urgency: "high", subject, text: `not read for ${span(gpu.read_age_s)}: the driver does not answer` },
    ];
  }
  return [];
}

/** @param {Worker} worker @param {number} nowMs @returns {Point[]} */
function ofWorker({ name: subject, phase, held, rung, forecast_s: forecast, last_restart: last }, nowMs) {
  if (held) return [{ urgency: "critical", subject, text: `held: ${held}` }];
  /** @type {Point[]} */
  const found = [];
  if (forecast !== null && phase === "ready")
    found.push({ urgency: "high", subject, text: `heads for its cap, in about ${about(forecast)}` });
  const ago = last && !EXPECTED.has(last.cause) ? (nowMs - Date.parse(last.at)) / 1000 : Infinity;
  if (last && ago < LATELY_S)
    found.push({
      urgency: "high",
      subject,
      text: `restarted ${span(Math.max(0, ago))} ago, ${last.cause}: ${last.reason}`,
    });
  if (rung > 0) found.push({ urgency: "info", subject, text: `degraded to rung ${rung} of its ladder` });
  return found;
}

/** @param {Status} status @returns {Point[]} */
function ofDaemon(status) {
  /** @type {Point[]} */
  const found = [];
  const add = (/** @type {Point["urgency"]} */ urgency, /** @type {string} */ text) =>
    found.push({ urgency, subject: "supervisor", text });
  if (status.config_refused) add("high", `the last reload was refused: ${status.config_refused}`);
  if (status.history !== "ok") add("high", `the history is kept in memory only: ${status.history}`);
  if (status.dry_run) add("info", "--dry-run: nothing that it decides is done");
  return found;
}

/**
 * The sentence that is read first. Nothing is well that is not known to be.
 * @param {Status} status @param {Point[]} found @param {{banner: Banner | null, freshness: Freshness}} around
 * @returns {{level: "normal" | "high" | "critical" | "quiet", title: string, detail: string}}
 */
export function verdict(status, found, { banner, freshness }) {
  const urgent = found.filter((one) => one.urgency !== "info");
  const detail = phases(status.workers);
  if (freshness.kind !== "live") {
    const since = freshness.sinceMs === null ? "" : ` since ${clock(freshness.sinceMs / 1000)}`;
    return { level: "quiet", title: `Not known${since}`, detail: `When it was read last: ${detail}` };
  }
  if (urgent.length === 0 && banner !== null)
    return { level: banner.level, title: "Memory is short", detail };
  const level = urgent.some((one) => one.urgency === "critical")
    ? "critical"
    : urgent.length
      ? "high"
      : "normal";
  const title =
    urgent.length === 0 ? "All is well" : `${count(urgent.length, "thing needs", "things need")} a look`;
  return { level, title, detail };
}

/** `3 workers ready · 1 held`. @param {Worker[]} workers */
export function phases(workers) {
  if (workers.length === 0) return "No workers are configured";
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { phase } of workers) counts.set(phase, (counts.get(phase) ?? 0) + 1);
  const ready = counts.get("ready") ?? 0;
  counts.delete("ready");
  const first =
    ready === workers.length
      ? `${workers.length === 1 ? "The worker is" : `All ${ready} workers are`} ready`
      : `${ready} of ${count(workers.length, "worker")} ready`;
  return [first, ...[...counts].map(([phase, number]) => `${number} ${phase}`)].join(" · ");
}
