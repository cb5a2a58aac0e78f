// @ts-check
/** One incident in full: what, why, the memory around it, what was done, the last words. */

import { byId, make, setProse, setShown, setText } from "./elements.js";
import { clock, field, fieldName, moment, span } from "./format.js";
import { ending } from "./incidents.js";
import { incident as ask } from "./server.js";

/** @import {Detail, Entry, Incident} from "./types.js" */
/** @import {Chart} from "./chart.js" */

export class IncidentDialog {
  /**
   * @param {(worker: string) => {memory: number | null, vram: number | null}} caps of a worker, as configured now
   * @param {(uuid: string) => string} gpuName
   */
  constructor(caps, gpuName) {
    this.caps = caps;
    this.gpuName = gpuName;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("incident"));
    /** @type {Chart | null} */
    this.chart = null;
    this.turn = 0; // which opening of it this is: an answer may come after the next one
    byId("incident-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => this.#clear());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  /** @param {string} id */
  async open(id) {
    this.turn += 1;
    const turn = this.turn;
    this.#clear();
    setText(byId("incident-title"), "Incident");
    this.#say("Reading …");
    if (!this.dialog.open) this.dialog.showModal();
    try {
      const detail = await ask(id);
      if (turn === this.turn && this.dialog.open) await this.#show(detail);
    } catch (refused) {
      if (turn === this.turn) this.#say(`It cannot be shown: ${/** @type {Error} */ (refused).message}`);
    }
  }

  /** @param {string} text */
  #say(text) {
    setText(byId("incident-status"), text);
    setShown(byId("incident-body"), text === "");
  }

  #clear() {
    this.chart?.close();
    this.chart = null;
    for (const id of ["incident-facts", "incident-timeline", "incident-chart"]) byId(id).replaceChildren();
    setText(byId("incident-log"), "");
  }

  /** @param {Detail} detail */
  async #show({ incident, timeline, samples, log_tail: log }) {
    setText(
      byId("incident-title"),
      [incident.worker ?? (incident.gpu ? this.gpuName(incident.gpu) : "The machine"), incident.cause]
        .filter(Boolean)
        .join(": "),
    );
    setProse(byId("incident-reason"), incident.reason);
    byId("incident-facts").append(...facts(incident));
    byId("incident-timeline").append(...timeline.map((entry) => step(entry, incident.opened_wall_s)));
    setShown(byId("incident-done"), timeline.length > 0);
    setText(byId("incident-log"), log.length ? log.join("\n") : "Nothing was heard of it.");
    setShown(byId("incident-words"), incident.worker !== null);
    this.#say("");
    await this.#draw(incident, samples);
  }

  /** @param {Incident} incident @param {Detail["samples"]} samples */
  async #draw(incident, samples) {
    const turn = this.turn;
    const { Chart, seriesOf } = await import("./chart.js");
    if (!this.dialog.open || turn !== this.turn) return;
    const caps = incident.worker === null ? { memory: null, vram: null } : this.caps(incident.worker);
    const drawn = seriesOf(samples, incident, caps);
    setText(byId("incident-chart-text"), drawn.summary);
    if (drawn.at.length) this.chart = new Chart(byId("incident-chart"), drawn, incident);
  }
}

/** @param {Incident} incident */
function facts(incident) {
  const now = Date.now() / 1000;
  const closed = incident.closed_wall_s;
  const known = [
    ["began", moment(incident.opened_wall_s, now)],
    ["ended", closed === null ? "not yet" : moment(closed, now)],
    ["outcome", closed === null ? "still open" : ending(incident)],
    ...(incident.gpu ? [["GPU", incident.gpu]] : []),
    ...Object.entries(incident.fields).map(([key, value]) => [fieldName(key), field(key, value)]),
  ];
  return known.map(([name, value]) =>
    make("div", {}, make("dt", { text: name }), make("dd", { text: value })),
  );
}

/** @param {Entry} entry @param {number} beganS */
function step(entry, beganS) {
  const after = entry.wall_s - beganS;
  const reason = make("span", { class: "step-reason" });
  setProse(reason, entry.reason);
  return make(
    "li",
    { "data-level": entry.level },
    make("time", {
      datetime: new Date(entry.wall_s * 1000).toISOString(),
      title: clock(entry.wall_s),
      text: after >= 0 ? `+${span(after)}` : span(after),
    }),
    make("span", { class: "step-what" }, make("strong", { text: entry.event }), reason),
  );
}
