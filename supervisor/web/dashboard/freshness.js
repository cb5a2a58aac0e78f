// @ts-check
/** Whether what is shown is of now, and if not since when. Pure. */

import { OLD_S } from "./attention.js";
import { span } from "./format.js";

/** @import {LinkState} from "./link.js" */
/** @import {Status} from "./types.js" */

/** @typedef {{kind: "connecting" | "live" | "stale", sinceMs: number | null, why: string}} Freshness */

/**
 * Judge by the link, and by what the server says of the daemon. Once stale, the moment since when stays what it is.
 * @param {Freshness} before @param {LinkState} link @param {Status | null} status @param {number} nowMs
 * @returns {Freshness}
 */
export function freshness(before, link, status, nowMs) {
  const why = link.kind === "live" ? daemonTrouble(status) : linkTrouble(link, nowMs);
  if (why === "") return { kind: "live", sinceMs: null, why };
  if (link.heardMs === null) return { kind: "connecting", sinceMs: null, why };
  const staleMs = link.kind === "live" ? (status?.web?.stale_s ?? 0) * 1000 : 0;
  return { kind: "stale", sinceMs: before.sinceMs ?? link.heardMs - staleMs, why };
}

/** @param {LinkState} link @param {number} nowMs */
function linkTrouble({ why, retryMs }, nowMs) {
  const leftS = retryMs === null ? 0 : Math.max(1, Math.round((retryMs - nowMs) / 1000));
  return [why, leftS ? `next try in ${span(leftS)}` : "trying now"].filter(Boolean).join("; ");
}

/** @param {Status | null} status */
function daemonTrouble(status) {
  const { daemon = "ok", stale_s: staleS = 0 } = status?.web ?? {};
  if (daemon !== "ok") return `the daemon is ${daemon}`;
  return staleS > OLD_S ? "the daemon does not answer" : "";
}
