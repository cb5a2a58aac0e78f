// @ts-check
/** The table of workers: sorted and filtered, each row kept for as long as its worker is there. */

import { Keyed, byId, make, setAttribute, setShown, setText } from "./elements.js";
import { count } from "./format.js";
import { WorkerRow } from "./worker_row.js";

/** @import {Status, Worker} from "./types.js" */
/** @import {Courses} from "./courses.js" */

const URGENCY = [
  "held",
  "killing",
  "waiting",
  "reclaiming",
  "stopping",
  "draining",
  "starting",
  "ready",
  "stopped",
];

/** @param {number | null} used @param {number | null} cap */
const share = (used, cap) => (used === null ? -1 : cap ? used / cap : used / 2 ** 60);

/** @type {Record<string, (one: Worker, two: Worker) => number>} */
const ORDERS = {
  configured: () => 0,
  name: (one, two) => one.name.localeCompare(two.name, undefined, { numeric: true }),
  phase: (one, two) => URGENCY.indexOf(one.phase) - URGENCY.indexOf(two.phase),
  memory: (one, two) =>
    share(two.memory_bytes, two.memory_cap_bytes) - share(one.memory_bytes, one.memory_cap_bytes),
  vram: (one, two) => share(two.vram_bytes, two.vram_cap_bytes) - share(one.vram_bytes, one.vram_cap_bytes),
  age: (one, two) => (two.age_s ?? -1) - (one.age_s ?? -1),
  restarts: (one, two) => two.restarts - one.restarts,
};

/**
 * The workers that are shown, in their order.
 * @param {Worker[]} workers @param {{name: string, phase: string, order: string}} wanted
 */
export function chosen(workers, { name, phase, order }) {
  const part = name.trim().toLowerCase();
  const found = workers.filter((one) => one.name.includes(part) && (phase === "" || one.phase === phase));
  return order === "configured" ? found : found.sort(ORDERS[order]);
}

export class Workers {
  /** @param {Courses} courses @param {(wish: string, worker: Worker) => void} act */
  constructor(courses, act) {
    this.courses = courses;
    this.act = act;
    /** @type {Status | null} */
    this.status = null;
    /** @type {{gpuNames: Map<string, string>, gpuMissing: boolean, quarantined: Set<string>}} */
    this.around = { gpuNames: new Map(), gpuMissing: false, quarantined: new Set() };
    this.aroundKey = "";
    /** @type {Map<string, WorkerRow>} */
    this.rows = new Map();
    this.list = new Keyed(
      byId("workers"),
      (/** @type {Worker} */ one) => one.name,
      (one) => this.#build(one),
    );
    this.name = /** @type {HTMLInputElement} */ (byId("filter-name"));
    this.phase = /** @type {HTMLSelectElement} */ (byId("filter-phase"));
    this.order = /** @type {HTMLSelectElement} */ (byId("order"));
    this.phase.append(...URGENCY.map((phase) => make("option", { value: phase, text: phase })));
    for (const control of [this.name, this.phase, this.order])
      control.addEventListener("input", () => this.#arrange());
  }

  /** @param {Worker} worker */
  #build({ name }) {
    const row = new WorkerRow(name, this.act);
    this.rows.set(name, row);
    return {
      element: row.element,
      show: (/** @type {Worker} */ worker) => row.show(worker, { courses: this.courses, ...this.around }),
    };
  }

  /** @param {Status} status @param {boolean} anew also the rows that have not changed: there are new courses */
  show(status, anew) {
    if (this.status?.gpus !== status.gpus) anew = this.#lookAround(status) || anew;
    const unchanged = this.status?.workers === status.workers;
    this.status = status;
    if (anew) this.#showAgain();
    if (!unchanged) this.#arrange();
  }

  /** What rows say of GPUs; true where that is something else than before. @param {Status} status */
  #lookAround(status) {
    const key = JSON.stringify([
      status.gpu_missing,
      status.gpus.map((gpu) => [gpu.uuid, gpu.index, Boolean(gpu.quarantine)]),
    ]);
    if (key === this.aroundKey) return false;
    this.aroundKey = key;
    this.around = {
      gpuNames: new Map(status.gpus.map((gpu) => [gpu.uuid, `GPU ${gpu.index}`])),
      gpuMissing: status.gpu_missing !== null,
      quarantined: new Set(status.gpus.filter((gpu) => gpu.quarantine).map((gpu) => gpu.uuid)),
    };
    return true;
  }

  #showAgain() {
    for (const row of this.rows.values())
      if (row.worker) row.show(row.worker, { courses: this.courses, ...this.around });
  }

  #arrange() {
    if (this.status === null) return;
    const wanted = { name: this.name.value, phase: this.phase.value, order: this.order.value };
    const all = this.status.workers;
    const found = chosen(all, wanted);
    this.list.show(found);
    for (const [name, row] of this.rows) {
      if (this.list.views.has(name)) continue;
      row.close();
      this.rows.delete(name);
    }
    setText(
      byId("workers-count"),
      found.length === all.length ? String(all.length) : `${found.length} of ${all.length}`,
    );
    setText(
      byId("workers-none"),
      all.length ? `None of ${count(all.length, "worker")} matches.` : "No workers are configured.",
    );
    setShown(byId("workers-none"), found.length === 0);
    setAttribute(byId("workers"), "data-count", String(found.length));
  }
}
