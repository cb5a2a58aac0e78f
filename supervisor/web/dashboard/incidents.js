// @ts-check
/** The last day: a strip of time, and the incidents below it, newest first. */

import { Keyed, byId, icon, make, makeSvg, setAttribute, setIcon, setShown, setText } from "./elements.js";
import { clock, count, moment, span } from "./format.js";
import { incidents as ask } from "./server.js";

/** @import {Incident, Worker} from "./types.js" */

const DAY_S = 86_400;
const MOST = 500; // asked for
const FIRST = 12; // shown until somebody wants more
const AGAIN_MS = 60_000;
const SOON_MS = 2500; // several notices of one incident come together, and the server remembers an answer for 2 s

/** Causes that somebody wished for, and those that are the course of things. */
const CALM = new Set(["operator", "reload", "age", "ladder", "leak"]);

const ICONS = { high: "busy", calm: "restart", critical: "critical" };

/** @param {Incident} incident @returns {"high" | "calm" | "critical"} */
export function weight(incident) {
  if (incident.closed_wall_s === null) return "high";
  return incident.cause !== null && CALM.has(incident.cause) ? "calm" : "critical";
}

/** How it ended: `ready again after 0.1 s; 12 s in all`. @param {Incident} incident */
export function ending(incident) {
  const { opened_wall_s: opened, closed_wall_s: closed, outcome } = incident;
  if (closed === null) return "still open";
  return `${outcome ?? "over"}; ${span(Math.max(0, closed - opened))} in all`;
}

export class Incidents {
  /** @param {(id: string) => void} open @param {(uuid: string) => string} gpuName */
  constructor(open, gpuName) {
    this.open = open;
    this.gpuName = gpuName;
    /** @type {Incident[]} */
    this.all = [];
    this.most = FIRST;
    this.timer = 0;
    this.soon = false; // it is asked again in a moment
    this.list = new Keyed(
      byId("incidents"),
      (/** @type {Incident} */ one) => one.id,
      () => this.#build(),
    );
    this.worker = /** @type {HTMLSelectElement} */ (byId("incidents-worker"));
    this.worker.addEventListener("input", () => this.#show());
    byId("incidents-more").addEventListener("click", () => {
      this.most = MOST;
      this.#show();
    });
  }

  /** Ask now, and every minute. */
  async refresh() {
    this.soon = false;
    this.#later(AGAIN_MS);
    if (document.hidden) return;
    try {
      this.all = await ask("24h", MOST);
      setText(byId("incidents-fault"), "");
      this.#offerWorkers();
      this.#show();
    } catch (refused) {
      setText(
        byId("incidents-fault"),
        `The history cannot be shown: ${/** @type {Error} */ (refused).message}`,
      );
    }
    setShown(byId("incidents-fault"), byId("incidents-fault").textContent !== "");
  }

  /** Something was told of an incident. */
  refreshSoon() {
    if (!this.soon) this.#later(SOON_MS);
    this.soon = true;
  }

  /** @param {number} waitMs */
  #later(waitMs) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), waitMs);
  }

  /** Let those be chosen that have incidents. */
  #offerWorkers() {
    const names = [...new Set(this.all.flatMap((one) => (one.worker === null ? [] : [one.worker])))].sort();
    const offered = [...this.worker.options].slice(1).map((option) => option.value);
    if (names.join() === offered.join()) return;
    const wanted = this.worker.value;
    const kept = wanted === "" || names.includes(wanted) ? names : [wanted, ...names];
    this.worker.replaceChildren(
      this.worker.options[0],
      ...kept.map((name) => make("option", { value: name, text: name })),
    );
    this.worker.value = wanted;
  }

  #show() {
    const found = this.worker.value ? this.all.filter((one) => one.worker === this.worker.value) : this.all;
    this.list.show(found.slice(0, this.most));
    setText(byId("incidents-count"), String(found.length));
    setShown(byId("incidents-more"), found.length > this.most);
    setText(byId("incidents-more"), `Show all ${found.length}`);
    setText(
      byId("incidents-none"),
      this.worker.value
        ? `No incident of ${this.worker.value} in the last 24 hours.`
        : "No incident in the last 24 hours.",
    );
    setShown(byId("incidents-none"), found.length === 0);
    this.#drawStrip(found);
  }

  #build() {
    const drawing = icon("critical");
    const [time, who, cause, reason, end] = ["time", "who", "cause", "reason", "ending"].map((name) =>
      make("span", { class: `incident-${name}` }),
    );
    let id = "";
    const element = make(
      "li",
      {},
      make(
        "button",
        { type: "button", class: "incident", onclick: () => this.open(id) },
        make("span", { class: "incident-dot" }, drawing),
        time,
        make("span", { class: "incident-what" }, who, cause),
        reason,
        end,
      ),
    );
    const show = (/** @type {Incident} */ incident) => {
      id = incident.id;
      setAttribute(element, "data-level", weight(incident));
      setIcon(drawing, ICONS[weight(incident)]);
      setText(time, moment(incident.opened_wall_s, Date.now() / 1000));
      setText(who, incident.worker ?? (incident.gpu ? this.gpuName(incident.gpu) : "machine"));
      setText(cause, incident.cause ?? "");
      setText(reason, incident.reason);
      setText(end, ending(incident));
    };
    return { element, show };
  }

  /** A dot for each incident on the line of the last 24 hours; the list below says the same in words. @param {Incident[]} found */
  #drawStrip(found) {
    const nowS = Date.now() / 1000;
    const x = (/** @type {number} */ atS) => 1000 * (1 - (nowS - atS) / DAY_S);
    const strip = byId("strip");
    const hour = 3600;
    const hours = [];
    for (let at = Math.ceil((nowS - DAY_S) / hour) * hour; at < nowS; at += hour) hours.push(at);
    const marks = hours.map((at) =>
      makeSvg("line", {
        class: new Date(at * 1000).getHours() % 6 === 0 ? "strip-noon" : "strip-hour",
        x1: x(at),
        x2: x(at),
        y1: 6,
        y2: 34,
      }),
    );
    const stacks = new Map();
    const dots = [...found].reverse().map((one) => {
      const column = Math.round(x(one.opened_wall_s) / 12);
      const height = stacks.get(column) ?? 0;
      stacks.set(column, height + 1);
      return dot(weight(one), x(one.opened_wall_s), 28 - Math.min(3, height) * 8);
    });
    strip.replaceChildren(
      makeSvg("line", { class: "strip-line", x1: 0, x2: 1000, y1: 35, y2: 35 }),
      ...marks,
      ...dots,
    );
    const labels = hours.filter((at) => new Date(at * 1000).getHours() % 6 === 0);
    byId("strip-labels").replaceChildren(
      ...labels.map((at) => {
        const label = make("span", { text: clock(at).slice(0, 5) });
        label.style.left = `clamp(1.2rem, ${x(at) / 10}%, calc(100% - 1.2rem))`;
        return label;
      }),
    );
    setText(byId("strip-summary"), `${count(found.length, "incident")} in the last 24 hours`);
  }
}

/** A line without length: its round ends stay round however the strip is stretched. @param {string} level @param {number} x @param {number} y */
function dot(level, x, y) {
  return makeSvg("line", {
    class: "strip-dot",
    "data-level": level,
    x1: x.toFixed(1),
    x2: x.toFixed(1),
    y1: y,
    y2: y,
  });
}
