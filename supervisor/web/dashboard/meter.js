// @ts-check
/** A bar that says how much of something is used. */

import { make, setAttribute, setShown, setText } from "./elements.js";

/** Above these shares of a cap the bar is coloured; the figure beside it says the same. */
const HIGH = 0.85;
const CRITICAL = 0.95;

/** @param {number} share @returns {string} */
export function capLevel(share) {
  return share >= CRITICAL ? "critical" : share >= HIGH ? "high" : "normal";
}

export class Meter {
  /** @param {string} label what is measured, for those who hear the page @param {string} [kind] a class */
  constructor(label, kind = "") {
    this.fill = make("span", { class: "meter-fill" });
    this.element = make(
      "span",
      {
        class: `meter ${kind}`,
        role: "meter",
        "aria-label": label,
        "aria-valuemin": "0",
        "aria-valuemax": "100",
        "aria-valuenow": "0",
      },
      this.fill,
    );
    this.shown = -1;
  }

  /** @param {number | null} share of 1; null is unknown, and no bar @param {string} text @param {string} level */
  show(share, text, level) {
    setShown(this.element, share !== null);
    if (share === null) return;
    const whole = Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10;
    if (whole !== this.shown) {
      this.shown = whole;
      this.fill.style.transform = `translateX(${whole - 100}%)`; // its width would be laid out anew each frame
      setAttribute(this.element, "aria-valuenow", String(Math.round(whole)));
    }
    setAttribute(this.element, "aria-valuetext", text);
    setAttribute(this.element, "data-level", level);
  }
}

/** A figure, or in its place that it is unknown and why. @param {HTMLElement} element @param {string | null} text @param {string | undefined} why */
export function setFigure(element, text, why) {
  setText(element, text ?? (why ? `unknown: ${why}` : "–"));
  setAttribute(element, "data-unknown", text === null && why ? "" : null);
}
