// @ts-check
/** The card of one gauge: a ring, a course, and named figures with their bars. */

import { icon, make, setAttribute, setIcon, setProse, setShown, setText } from "./elements.js";
import { sizeOf } from "./format.js";
import { Meter, setFigure } from "./meter.js";
import { Ring } from "./ring.js";
import { Sparkline } from "./sparkline.js";

/** @import {Level} from "./types.js" */

const ICONS = /** @type {Record<Level, string>} */ ({
  normal: "ok",
  high: "high",
  critical: "critical",
  extreme: "extreme",
});

export class Gauge {
  /** @param {string} title @param {string[]} rows the names of the figures */
  constructor(title, rows) {
    this.ring = new Ring(`${title} memory used`);
    this.levelIcon = icon("ok");
    this.level = make("span");
    this.chip = make("span", { class: "chip" }, this.levelIcon, this.level);
    this.subtitle = make("p", { class: "gauge-subtitle" });
    this.note = make("p", { class: "gauge-note" });
    this.memory = make("p", { class: "gauge-memory" });
    this.line = new Sparkline(`${title} memory in the last hour`);
    /** @type {Map<string, {row: HTMLElement, figure: HTMLElement, meter: Meter}>} */
    this.rows = new Map();
    const list = make("dl", { class: "figures" });
    for (const name of rows) list.append(this.#row(title, name));
    this.element = make(
      "article",
      { class: "card gauge" },
      make("header", { class: "gauge-head" }, make("h3", { text: title }), this.chip),
      this.subtitle,
      make(
        "div",
        { class: "gauge-body" },
        this.ring.element,
        make("div", { class: "gauge-side" }, this.memory, this.line.element, list),
      ),
      this.note,
    );
  }

  /** @param {string} title @param {string} name */
  #row(title, name) {
    const figure = make("dd");
    const meter = new Meter(`${title} ${name}`, "thin");
    const row = make(
      "div",
      {},
      make("dt", { text: name }),
      figure,
      make("dd", { class: "figure-bar" }, meter.element),
    );
    this.rows.set(name, { row, figure, meter });
    return row;
  }

  /** @param {string} subtitle @param {Level} level @param {string} [trouble] stands in the place of the level's name */
  showHead(subtitle, level, trouble = "") {
    const shown = trouble ? "critical" : level;
    setAttribute(this.element, "data-level", shown);
    setIcon(this.levelIcon, ICONS[shown] ?? "info");
    setText(this.level, trouble || level);
    setText(this.subtitle, subtitle);
    setShown(this.subtitle, subtitle !== "");
  }

  /** @param {string} note */
  showNote(note) {
    setProse(this.note, note);
    setShown(this.note, note !== "");
  }

  /** @param {number | null} share @param {number | null} used @param {number | null} total @param {string | undefined} why */
  showMemory(share, used, total, why) {
    const text = share === null || used === null || total === null ? null : sizeOf(used, total);
    setFigure(this.memory, text, why ?? "not read");
    this.ring.show(share, text ?? `unknown: ${why ?? "not read"}`);
  }

  /** @param {string} name @param {{text: string | null, why?: string, share?: number | null, level?: string}} shown */
  showRow(name, { text, why, share = null, level = "normal" }) {
    const row = this.rows.get(name);
    if (row === undefined) return;
    setFigure(row.figure, text, why);
    row.meter.show(text === null ? null : share, text ?? "", level);
  }
}
