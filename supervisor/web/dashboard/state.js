// @ts-check
/** What the page knows, and what each message makes of it. Values: nothing here is changed in place. */

/** @import {Status, Worker, Gpu, Alert, Progress, Web} from "./types.js" */

/**
 * @typedef {object} State
 * @property {Status | null} status
 * @property {Alert[]} alerts
 */

/** @type {State} */
export const NOTHING = { status: null, alerts: [] };

/**
 * Return the state after a message of the server. What a message does not tell of keeps its identity, so
 * that who shows it can see at a glance that nothing has to be done.
 * @param {State} state @param {any} message @returns {State}
 */
export function after(state, message) {
  switch (message.type) {
    case "snapshot":
      return { status: message.status, alerts: message.alerts ?? [] };
    case "changes":
      return state.status === null ? state : { ...state, status: changed(state.status, message) };
    case "alerts":
      return { ...state, alerts: message.alerts };
    case "job":
      return state.status === null ? state : { ...state, status: withJob(state.status, message) };
    case "heartbeat":
      return state.status === null ? state : { ...state, status: withHeartbeat(state.status, message) };
    default:
      return state;
  }
}

/** @param {Status} status @param {any} message @returns {Status} */
function changed(status, message) {
  const workers = message.workers ?? [];
  return {
    ...status,
    ...message.status,
    gpus:
      message.status?.gpus ?? // they are not the same GPUs any more
      (message.gpus?.length ? merged(status.gpus, message.gpus, (gpu) => gpu.uuid) : status.gpus),
    workers:
      workers.length || message.gone?.length || message.order
        ? ordered(
            merged(status.workers, workers, (one) => one.name),
            message.gone ?? [],
            message.order,
          )
        : status.workers,
  };
}

/**
 * @template T
 * @param {T[]} old @param {T[]} fresh @param {(one: T) => string} key @returns {T[]}
 */
function merged(old, fresh, key) {
  const byKey = new Map(old.map((one) => [key(one), one]));
  for (const one of fresh) byKey.set(key(one), one);
  return [...byKey.values()];
}

/** @param {Worker[]} workers @param {string[]} gone @param {string[] | undefined} order @returns {Worker[]} */
function ordered(workers, gone, order) {
  const left = gone.length ? workers.filter((one) => !gone.includes(one.name)) : workers;
  if (!order) return left;
  const place = new Map(order.map((name, index) => [name, index]));
  const last = order.length;
  return [...left].sort((one, two) => (place.get(one.name) ?? last) - (place.get(two.name) ?? last));
}

/** @param {Status} status @param {{worker: string, job: Progress}} message @returns {Status} */
function withJob(status, { worker, job }) {
  const workers = status.workers.map((one) =>
    one.name === worker && one.reported ? { ...one, reported: { ...one.reported, progress: job } } : one,
  );
  return { ...status, workers };
}

/** @param {Status} status @param {{stale_s: number, daemon: string}} message @returns {Status} */
function withHeartbeat(status, { stale_s, daemon }) {
  const web = { read_at: "", ...status.web, stale_s, daemon };
  return { ...status, web };
}
