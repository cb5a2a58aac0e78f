// @ts-check
/** The alerts: firing first, then those that may come, then those that are over. */

import { Keyed, byId, icon, make, setAttribute, setIcon, setShown, setText } from "./elements.js";
import { moment } from "./format.js";

/** @import {Alert} from "./types.js" */

const STATES = ["firing", "pending", "resolved"];
const SEVERITIES = ["critical", "warning", "info"];

/** @param {Alert[]} alerts */
export function sorted(alerts) {
  const rank = (/** @type {Alert} */ one) =>
    STATES.indexOf(one.state) * 10 + SEVERITIES.indexOf(one.severity);
  return [...alerts].sort((one, two) => rank(one) - rank(two) || two.since_wall_s - one.since_wall_s);
}

export class Alerts {
  constructor() {
    this.list = new Keyed(
      byId("alerts"),
      (/** @type {Alert} */ one) => [one.name, one.worker, one.gpu].join(" "),
      build,
    );
    /** @type {Alert[] | null} */
    this.shown = null;
  }

  /** @param {Alert[]} alerts */
  show(alerts) {
    if (alerts === this.shown) return;
    this.shown = alerts;
    this.list.show(sorted(alerts));
    setShown(byId("alerts-none"), alerts.length === 0);
    setText(byId("alerts-count"), String(alerts.filter((one) => one.state === "firing").length));
  }
}

function build() {
  const drawing = icon("high");
  const [name, state, summary, since] = ["strong", "span", "span", "span"].map((tag) =>
    make(/** @type {"span"} */ (tag)),
  );
  const file = make("span", { class: "faint" });
  const runbook = make("a", { rel: "noreferrer", target: "_blank", text: "runbook" });
  since.className = "faint";
  const element = make(
    "li",
    { class: "alert" },
    drawing,
    make(
      "div",
      { class: "alert-text" },
      make("span", { class: "alert-head" }, name, make("span", { class: "chip" }, state)),
      summary,
      since,
      runbook,
      file,
    ),
  );
  const show = (/** @type {Alert} */ alert) => {
    const level =
      alert.state === "resolved"
        ? "normal"
        : alert.severity === "critical"
          ? "critical"
          : alert.severity === "warning"
            ? "high"
            : "calm";
    setAttribute(element, "data-level", level);
    setAttribute(/** @type {Element} */ (state.parentElement), "data-level", level);
    setIcon(drawing, alert.state === "resolved" ? "ok" : alert.severity === "critical" ? "critical" : "high");
    setText(name, alert.name);
    setText(state, `${alert.state}, ${alert.severity}`);
    setText(summary, alert.summary);
    const now = Date.now() / 1000;
    setText(
      since,
      alert.resolved_wall_s === null
        ? `since ${moment(alert.since_wall_s, now)}`
        : `over since ${moment(alert.resolved_wall_s, now)}`,
    );
    const isLink = /^https?:\/\//.test(alert.runbook ?? ""); // else it is a file, and no link of whatever kind
    setShown(runbook, isLink);
    setAttribute(runbook, "href", isLink ? alert.runbook : null);
    setText(file, isLink || !alert.runbook ? "" : `runbook: ${alert.runbook}`);
  };
  return { element, show };
}
