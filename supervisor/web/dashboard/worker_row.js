// @ts-check
/** One worker: a group of table rows, which a phone shows as a card. */

import { Buttons } from "./buttons.js";
import { icon, make, setAttribute, setIcon, setProse, setShown, setText } from "./elements.js";
import { span, spanOf } from "./format.js";
import { Health } from "./health.js";
import { Meter } from "./meter.js";
import { Quantity } from "./quantity.js";
import { Work } from "./work.js";

/** @import {Worker} from "./types.js" */
/** @import {Courses} from "./courses.js" */

const PHASES = /** @type {Record<string, {icon: string, level: string}>} */ ({
  ready: { icon: "ok", level: "normal" },
  starting: { icon: "busy", level: "calm" },
  waiting: { icon: "wait", level: "high" },
  draining: { icon: "busy", level: "calm" },
  stopping: { icon: "busy", level: "calm" },
  killing: { icon: "critical", level: "high" },
  reclaiming: { icon: "busy", level: "calm" },
  stopped: { icon: "stop", level: "quiet" },
  held: { icon: "critical", level: "critical" },
});

export class WorkerRow {
  /** @param {string} name @param {(wish: string, worker: Worker) => void} act */
  constructor(name, act) {
    /** @type {Worker | null} */
    this.worker = null;
    this.phaseIcon = icon("wait");
    this.phase = make("span");
    this.chip = make("span", { class: "chip" }, this.phaseIcon, this.phase);
    this.where = make("span", { class: "faint" });
    this.age = make("span", { class: "figure" });
    this.most = make("span", { class: "share" });
    this.ageMeter = new Meter(`${name} age`);
    this.left = make("span", { class: "faint" });
    this.memory = new Quantity(`${name} memory`);
    this.vram = new Quantity(`${name} VRAM`);
    this.health = new Health();
    this.work = new Work(name);
    this.note = make("td", { class: "note", role: "cell", colspan: "7" });
    this.noteRow = make("tr", { class: "note-row", role: "row", hidden: true }, this.note);
    this.buttons = new Buttons(name, (wish) => this.worker && act(wish, this.worker));
    this.element = make(
      "tbody",
      { class: "worker", role: "rowgroup", "data-worker": name },
      this.#row(name),
      this.noteRow,
    );
  }

  /** @param {string} name */
  #row(name) {
    const cell = (/** @type {string} */ label, /** @type {(Node | string | null)[]} */ ...children) =>
      make("td", { role: "cell", "data-label": label, class: `cell-${label.toLowerCase()}` }, ...children);
    return make(
      "tr",
      { role: "row" },
      make(
        "th",
        { scope: "row", role: "rowheader", class: "cell-name" },
        make("span", { class: "name", text: name }),
        this.chip,
        this.where,
      ),
      cell("Age", make("span", { class: "quantity" }, this.age, this.most), this.ageMeter.element, this.left),
      cell("Memory", ...this.memory.parts),
      cell("VRAM", ...this.vram.parts),
      cell("Health", this.health.element),
      cell("Work", this.work.element),
      cell("Actions", this.buttons.element),
    );
  }

  /** @param {Worker} worker @param {{courses: Courses, gpuNames: Map<string, string>, gpuMissing: boolean, quarantined: Set<string>}} around */
  show(worker, { courses, gpuNames, gpuMissing, quarantined }) {
    this.worker = worker;
    const phase = PHASES[worker.phase] ?? { icon: "info", level: "calm" };
    setAttribute(this.element, "data-phase", worker.phase);
    setAttribute(this.element, "data-idle", worker.age_s === null ? "" : null);
    setAttribute(this.chip, "data-level", phase.level);
    setIcon(this.phaseIcon, phase.icon);
    setText(this.phase, worker.phase);
    const gpus = worker.gpus.map((uuid) => gpuNames.get(uuid) ?? uuid).join(", ");
    setText(this.where, [worker.pid === null ? "" : `pid ${worker.pid}`, gpus].filter(Boolean).join(" · "));
    this.#showAge(worker);
    const { missing } = worker;
    this.memory.show(
      worker.memory_bytes,
      worker.memory_cap_bytes,
      missing.memory_bytes,
      courses.of("worker", worker.name, "memory_bytes", worker.memory_bytes),
    );
    this.vram.show(
      worker.vram_bytes,
      worker.vram_cap_bytes,
      gpuMissing ? undefined : missing.vram_bytes,
      courses.of("worker", worker.name, "vram_bytes", worker.vram_bytes),
    );
    this.health.show(worker);
    this.work.show(worker.reported);
    this.#showNote(worker);
    this.buttons.show(
      worker,
      worker.gpus.some((uuid) => quarantined.has(uuid)),
    );
  }

  /** @param {Worker} worker */
  #showAge({ age_s: age, max_age_s: most, restart_in_s: left }) {
    setText(this.age, age === null ? "–" : span(age));
    setText(this.most, age === null || most === null ? "" : `of ${span(most)}`);
    const share = age === null || !most ? null : age / most;
    this.ageMeter.show(share, age === null || most === null ? "" : spanOf(age, most), "calm");
    setText(this.left, left === null ? "" : left <= 0 ? "restart is due" : `restart in ${span(left)}`);
  }

  /** @param {Worker} worker */
  #showNote(worker) {
    const text = note(worker);
    setShown(this.noteRow, text !== "");
    setAttribute(this.note, "data-level", worker.held ? "critical" : "high");
    setProse(this.note, text);
  }

  close() {
    this.memory.line.close();
    this.vram.line.close();
  }
}

/** Why it is not where it should be, with the command that helps. @param {Worker} worker */
export function note(worker) {
  const release = `\`gpu-supervisor reset ${worker.name}\``;
  return [
    worker.held ? `held: ${worker.held}${worker.held.includes("`") ? "" : `; ${release} releases it`}` : "",
    worker.waits_for ? `waits for ${worker.waits_for}` : "",
    worker.rung > 0 && !worker.held
      ? `degraded to rung ${worker.rung} of its ladder; ${release} brings its full settings back`
      : "",
  ]
    .filter(Boolean)
    .join(" · ");
}
