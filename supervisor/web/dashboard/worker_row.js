// @ts-check
/** One worker: a group of table rows, which a phone shows as a card. */

import { OLD_S } from "./attention.js";
import { icon, make, setAttribute, setIcon, setProse, setShown, setText } from "./elements.js";
import { about, count, moment, percent, size, sizeOf, span, spanOf } from "./format.js";
import { Meter, capLevel, setFigure } from "./meter.js";
import { Sparkline } from "./sparkline.js";

/** @import {Worker, Progress, Reported} from "./types.js" */
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

/** Memory or VRAM against its cap, and its last hour. */
class Quantity {
  /** @param {string} label */
  constructor(label) {
    this.figure = make("span", { class: "figure" });
    this.share = make("span", { class: "share" });
    this.meter = new Meter(label);
    this.line = new Sparkline(`${label} in the last hour`);
    this.parts = [make("span", { class: "quantity" }, this.figure, this.share), this.meter.element, this.line.element];
  }

  /** @param {number | null} used @param {number | null} cap @param {string | undefined} why @param {(number | null)[]} course */
  show(used, cap, why, course) {
    const text = used === null ? null : cap === null ? size(used) : sizeOf(used, cap);
    const share = used === null || !cap ? null : used / cap;
    setFigure(this.figure, text, why);
    setText(this.share, share === null ? "" : percent(share));
    this.meter.show(share, `${text ?? ""}, ${share === null ? "" : percent(share)} of its cap`, share === null ? "normal" : capLevel(share));
    const known = course.some((value) => value !== null && value > 0);
    setShown(this.line.element, known);
    if (known) this.line.show(course, cap);
  }
}

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
    this.element = make("tbody", { class: "worker", role: "rowgroup", "data-worker": name }, this.#row(name), this.noteRow);
  }

  /** @param {string} name */
  #row(name) {
    const cell = (/** @type {string} */ label, /** @type {(Node | string | null)[]} */ ...children) =>
      make("td", { role: "cell", "data-label": label, class: `cell-${label.toLowerCase()}` }, ...children);
    return make(
      "tr",
      { role: "row" },
      make("th", { scope: "row", role: "rowheader", class: "cell-name" }, make("span", { class: "name", text: name }), this.chip, this.where),
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
    this.memory.show(worker.memory_bytes, worker.memory_cap_bytes, missing.memory_bytes, courses.of("worker", worker.name, "memory_bytes", worker.memory_bytes));
    this.vram.show(worker.vram_bytes, worker.vram_cap_bytes, gpuMissing ? undefined : missing.vram_bytes, courses.of("worker", worker.name, "vram_bytes", worker.vram_bytes));
    this.health.show(worker);
    this.work.show(worker.reported);
    this.#showNote(worker);
    this.buttons.show(worker, worker.gpus.some((uuid) => quarantined.has(uuid)));
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
    worker.rung > 0 && !worker.held ? `degraded to rung ${worker.rung} of its ladder; ${release} brings its full settings back` : "",
  ].filter(Boolean).join(" · ");
}

/** Restarts, rung, out-of-memory events and the forecast: little where there is little to say. */
class Health {
  constructor() {
    this.restarts = make("span", { class: "figure" });
    this.cause = make("span", { class: "faint" });
    this.rung = make("span");
    this.rungChip = make("span", { class: "chip", "data-level": "high" }, icon("down"), this.rung);
    this.oom = make("span");
    this.oomChip = make("span", { class: "chip", "data-level": "high" }, icon("high"), this.oom);
    this.forecast = make("span");
    this.forecastChip = make("span", { class: "chip", "data-level": "high" }, icon("up"), this.forecast);
    this.element = make("div", { class: "stack" }, this.restarts, this.cause, make("span", { class: "chips" }, this.rungChip, this.oomChip, this.forecastChip));
  }

  /** @param {Worker} worker */
  show({ restarts, last_restart: last, rung, oom_events: ooms, forecast_s: forecast }) {
    setText(this.restarts, restarts === 0 ? "no restarts" : count(restarts, "restart"));
    setAttribute(this.restarts, "data-quiet", restarts === 0 ? "" : null);
    setText(this.cause, last === null ? "" : `${last.cause}, ${moment(Date.parse(last.at) / 1000, Date.now() / 1000)}`);
    setAttribute(this.cause, "title", last?.reason ?? null);
    setShown(this.rungChip, rung > 0);
    setText(this.rung, `rung ${rung}`);
    setShown(this.oomChip, ooms > 0);
    setText(this.oom, `${ooms}× out of memory`);
    setShown(this.forecastChip, forecast !== null);
    setText(this.forecast, forecast === null ? "" : `cap in ~${about(forecast)}`);
  }
}

/** What the worker reports of itself: that it lives, and where its job stands. */
class Work {
  /** @param {string} name */
  constructor(name) {
    this.beat = make("span", { class: "faint" });
    this.level = make("span");
    this.levelChip = make("span", { class: "chip" }, icon("high"), this.level);
    this.job = make("span", { class: "figure" });
    this.progress = make("progress", { "aria-label": `${name} job`, max: "1", value: "0" });
    this.pace = make("span", { class: "faint" });
    this.element = make("div", { class: "stack" }, this.job, this.progress, this.pace, this.levelChip, this.beat);
  }

  /** @param {Reported | null} reported */
  show(reported) {
    const job = reported?.progress ?? null;
    this.#showBeat(reported);
    setText(this.job, job === null ? "" : jobTitle(job));
    setText(this.pace, job === null ? "" : pace(job));
    const known = job !== null && job.total !== null && job.total > 0;
    setShown(this.progress, known);
    if (!known) return;
    this.progress.max = /** @type {number} */ (job.total);
    this.progress.value = job.done;
  }

  /** @param {Reported | null} reported */
  #showBeat(reported) {
    const level = reported?.level ?? "normal";
    setShown(this.levelChip, level !== "normal");
    setAttribute(this.levelChip, "data-level", level);
    setText(this.level, `reports ${level}`);
    const old = reported !== null && reported.report_age_s > OLD_S;
    setText(this.beat, reported === null ? "does not report" : `${old ? "silent for" : "heard"} ${span(reported.report_age_s)}${old ? "" : " ago"}${reported.draining ? (reported.drained ? ", drained" : ", draining") : ""}`);
    setAttribute(this.beat, "data-old", old ? "" : null);
  }
}

/** `embed-7 · 40 of 120 · processing`. @param {Progress} job */
export function jobTitle(job) {
  const done = job.total === null ? (job.done ? `${job.done} done` : "") : `${job.done} of ${job.total}`;
  return [job.job, done, job.state].filter(Boolean).join(" · ");
}

/** `3rd in the queue · batches of 12 · 34.1/s · 2 min left`. @param {Progress} job */
export function pace(job) {
  const over = job.state === "completed" || job.state === "failed";
  return [
    job.position !== null && job.state === "queued" ? `place ${job.position} in the queue` : "",
    job.batch_size === null ? "" : `batches of ${job.batch_size}`,
    job.throughput === null ? "" : `${Number(job.throughput.toPrecision(3))}/s`,
    job.eta_s === null || over ? "" : `${span(job.eta_s)} left`,
  ].filter(Boolean).join(" · ");
}

/** What an operator can wish for this worker. One button is both stop and start, so that the focus stays. */
class Buttons {
  /** @param {string} name @param {(wish: string) => void} act */
  constructor(name, act) {
    this.name = name;
    this.restart = button("restart", name, act);
    this.toggle = button("stop", name, act);
    this.reset = button("reset", name, act);
    this.element = make("div", { class: "buttons", role: "group", "aria-label": `Actions on ${name}` }, this.restart.element, this.toggle.element, this.reset.element);
  }

  /** @param {Worker} worker @param {boolean} quarantined one of its GPUs is: reset frees that too */
  show(worker, quarantined) {
    this.toggle.become(worker.phase === "stopped" ? "start" : "stop");
    setShown(this.reset.element, worker.held !== null || worker.rung > 0 || quarantined);
    setAttribute(this.reset.element, "data-urgent", worker.held !== null ? "" : null);
  }
}

/** @param {string} first @param {string} name @param {(wish: string) => void} act */
function button(first, name, act) {
  let wish = "";
  const drawing = icon(first);
  const word = make("span");
  const element = make("button", { type: "button", class: "small", onclick: () => act(wish) }, drawing, word);
  const become = (/** @type {string} */ next) => {
    if (next === wish) return;
    wish = next;
    setIcon(drawing, wish);
    setText(word, wish[0].toUpperCase() + wish.slice(1));
    setAttribute(element, "aria-label", `${wish[0].toUpperCase()}${wish.slice(1)} ${name}`);
    setAttribute(element, "data-wish", wish);
  };
  become(first);
  return { element, become };
}
