// @ts-check
/** A ring that says how full something is. */

import { make, makeSvg, setAttribute, setText } from "./elements.js";
import { percent } from "./format.js";
import { ALARM_SHARE, WARN_SHARE } from "./pressure.js";

const RADIUS = 42;
const AROUND = 2 * Math.PI * RADIUS;
const SWEEP = 0.75; // of the whole circle

/** A ring from 0 to 100 %, with marks where the banner comes up. */
export class Ring {
  /** @param {string} label */
  constructor(label) {
    const arc = (/** @type {string} */ kind) =>
      makeSvg("circle", {
        class: kind,
        cx: 50,
        cy: 50,
        r: RADIUS,
        fill: "none",
        "stroke-dasharray": `${AROUND * SWEEP} ${AROUND}`,
        transform: "rotate(135 50 50)",
      });
    this.fill = arc("ring-fill");
    this.figure = make("span", { class: "ring-figure" });
    const marks = [WARN_SHARE, ALARM_SHARE].map(mark);
    this.element = make(
      "div",
      {
        class: "ring",
        role: "meter",
        "aria-label": label,
        "aria-valuemin": "0",
        "aria-valuemax": "100",
        "aria-valuenow": "0",
      },
      makeSvg(
        "svg",
        { viewBox: "0 0 100 100", "aria-hidden": "true" },
        arc("ring-track"),
        this.fill,
        ...marks,
      ),
      make("span", { class: "ring-text" }, this.figure, make("span", { class: "ring-unit", text: "used" })),
    );
  }

  /** @param {number | null} share @param {string} text */
  show(share, text) {
    const shown = Math.min(1, Math.max(0, share ?? 0));
    setAttribute(this.fill, "stroke-dasharray", `${(AROUND * SWEEP * shown).toFixed(1)} ${AROUND}`);
    setAttribute(this.fill, "visibility", shown > 0 ? null : "hidden"); // else its round end is a dot
    setText(this.figure, share === null ? "?" : percent(share));
    setAttribute(this.element, "aria-valuenow", String(Math.round(shown * 100)));
    setAttribute(this.element, "aria-valuetext", text);
  }
}

/** @param {number} share */
function mark(share) {
  const angle = ((135 + 360 * SWEEP * share) * Math.PI) / 180;
  const at = (/** @type {number} */ radius) => ({
    x: (50 + radius * Math.cos(angle)).toFixed(2),
    y: (50 + radius * Math.sin(angle)).toFixed(2),
  });
  const [inner, outer] = [at(RADIUS + 4.5), at(RADIUS + 7.5)];
  return makeSvg("line", {
    class: "ring-mark",
    "data-level": share === ALARM_SHARE ? "critical" : "high",
    x1: inner.x,
    y1: inner.y,
    x2: outer.x,
    y2: outer.y,
  });
}
