// @ts-check
/** What a worker reports of itself: that it lives, and where its job stands. */

import { OLD_S } from "./attention.js";
import { icon, make, setAttribute, setShown, setText } from "./elements.js";
import { span } from "./format.js";

/** @import {Progress, Reported} from "./types.js" */

export class Work {
  /** @param {string} name */
  constructor(name) {
    this.beat = make("span", { class: "faint" });
    this.level = make("span");
    this.levelChip = make("span", { class: "chip" }, icon("high"), this.level);
    this.job = make("span", { class: "figure" });
    this.progress = make("progress", { "aria-label": `${name} job`, max: "1", value: "0" });
    this.pace = make("span", { class: "faint" });
    this.element = make(
      "div",
      { class: "stack" },
      this.job,
      this.progress,
      this.pace,
      this.levelChip,
      this.beat,
    );
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
    setText(
      this.beat,
      reported === null
        ? "does not report"
        : `${old ? "silent for" : "heard"} ${span(reported.report_age_s)}${old ? "" : " ago"}${reported.draining ? (reported.drained ? ", drained" : ", draining") : ""}`,
    );
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
  ]
    .filter(Boolean)
    .join(" · ");
}
