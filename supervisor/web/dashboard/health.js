// @ts-check
/** How a worker has fared: little is shown where there is little to say. */

import { icon, make, setAttribute, setShown, setText } from "./elements.js";
import { about, count, moment } from "./format.js";

/** @import {Worker} from "./types.js" */

/** Restarts, rung, out-of-memory events and the forecast: little where there is little to say. */
export class Health {
  constructor() {
    this.restarts = make("span", { class: "figure" });
    this.cause = make("span", { class: "faint" });
    this.rung = make("span");
    this.rungChip = make("span", { class: "chip", "data-level": "high" }, icon("down"), this.rung);
    this.oom = make("span");
    this.oomChip = make("span", { class: "chip", "data-level": "high" }, icon("high"), this.oom);
    this.forecast = make("span");
    this.forecastChip = make("span", { class: "chip", "data-level": "high" }, icon("up"), this.forecast);
    this.element = make(
      "div",
      { class: "stack" },
      this.restarts,
      this.cause,
      make("span", { class: "chips" }, this.rungChip, this.oomChip, this.forecastChip),
    );
  }

  /** @param {Worker} worker */
  show({ restarts, last_restart: last, rung, oom_events: ooms, forecast_s: forecast }) {
    setText(this.restarts, restarts === 0 ? "no restarts" : count(restarts, "restart"));
    setAttribute(this.restarts, "data-quiet", restarts === 0 ? "" : null);
    setText(
      this.cause,
      last === null ? "" : `${last.cause}, ${moment(Date.parse(last.at) / 1000, Date.now() / 1000)}`,
    );
    setAttribute(this.cause, "title", last?.reason ?? null);
    setShown(this.rungChip, rung > 0);
    setText(this.rung, `rung ${rung}`);
    setShown(this.oomChip, ooms > 0);
    setText(this.oom, `${ooms}× out of memory`);
    setShown(this.forecastChip, forecast !== null);
    setText(this.forecast, forecast === null ? "" : `cap in ~${about(forecast)}`);
  }
}
