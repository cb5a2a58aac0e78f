// @ts-check
/** Memory or VRAM of a worker: a figure, a bar against the cap, and the last hour. */

import { make, setShown, setText } from "./elements.js";
import { percent, size, sizeOf } from "./format.js";
import { Meter, capLevel, setFigure } from "./meter.js";
import { Sparkline } from "./sparkline.js";

export class Quantity {
  /** @param {string} label */
  constructor(label) {
    this.figure = make("span", { class: "figure" });
    this.share = make("span", { class: "share" });
    this.meter = new Meter(label);
    this.line = new Sparkline(`${label} in the last hour`);
    this.parts = [
      make("span", { class: "quantity" }, this.figure, this.share),
      this.meter.element,
      this.line.element,
    ];
  }

  /** @param {number | null} used @param {number | null} cap @param {string | undefined} why @param {(number | null)[]} course */
  show(used, cap, why, course) {
    const text = used === null ? null : cap === null ? size(used) : sizeOf(used, cap);
    const share = used === null || !cap ? null : used / cap;
    setFigure(this.figure, text, why);
    setText(this.share, share === null ? "" : percent(share));
    this.meter.show(
      share,
      `${text ?? ""}, ${share === null ? "" : percent(share)} of its cap`,
      share === null ? "normal" : capLevel(share),
    );
    const known = course.some((value) => value !== null && value > 0);
    setShown(this.line.element, known);
    if (known) this.line.show(course, cap);
  }
}
