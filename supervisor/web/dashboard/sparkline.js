// @ts-check
/** The course of one quantity over the last hour, drawn only while it can be seen. */

import { make, setAttribute } from "./elements.js";
import { size } from "./format.js";
import { colour, onColours } from "./palette.js";

/** @type {WeakMap<Element, Sparkline>} */
const lines = new WeakMap();
/** @type {Set<Sparkline>} */
const seen = new Set();

const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const line = lines.get(target);
    if (line === undefined) continue;
    if (isIntersecting) {
      seen.add(line);
      line.draw();
    } else seen.delete(line);
  }
});

onColours(() => seen.forEach((line) => line.redraw()));
addEventListener("resize", () => seen.forEach((line) => line.redraw()));

export class Sparkline {
  /** @param {string} label what is drawn @param {string} [paint] the custom property of its colour */
  constructor(label, paint = "--level-normal") {
    this.label = label;
    this.paint = paint;
    this.element = make("canvas", {
      class: "sparkline",
      role: "img",
      "aria-label": `${label}: no readings yet`,
    });
    /** @type {(number | null)[]} */
    this.values = [];
    /** @type {number | null} */
    this.ceiling = null;
    this.dirty = true;
    lines.set(this.element, this);
    watch.observe(this.element);
  }

  /** Forget the element, which has left the page. */
  close() {
    watch.unobserve(this.element);
    seen.delete(this);
  }

  /** @param {(number | null)[]} values oldest first; null is a gap @param {number | null} ceiling a cap or total */
  show(values, ceiling) {
    if (ceiling === this.ceiling && same(values, this.values)) return;
    this.values = values;
    this.ceiling = ceiling;
    this.redraw();
  }

  redraw() {
    this.dirty = true;
    if (seen.has(this)) this.draw();
  }

  draw() {
    if (!this.dirty || this.element.clientWidth === 0) return;
    this.dirty = false;
    const known = this.values.filter((value) => value !== null);
    const summary = known.length
      ? `from ${size(known[0])} to ${size(known[known.length - 1])}, at most ${size(Math.max(...known))}`
      : "no readings yet";
    setAttribute(this.element, "aria-label", `${this.label}: ${summary}`);
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    const ratio = devicePixelRatio || 1;
    this.element.width = Math.round(width * ratio);
    this.element.height = Math.round(height * ratio);
    const paper = /** @type {CanvasRenderingContext2D} */ (this.element.getContext("2d"));
    paper.scale(ratio, ratio);
    paint(paper, this, { width, height, most: Math.max(this.ceiling ?? 0, ...known) || 1 });
  }
}

/** @param {(number | null)[]} one @param {(number | null)[]} two */
function same(one, two) {
  return one.length === two.length && one.every((value, index) => value === two[index]);
}

/**
 * @param {CanvasRenderingContext2D} paper @param {Sparkline} line
 * @param {{width: number, height: number, most: number}} scale
 */
function paint(paper, line, { width, height, most }) {
  const room = height - 3;
  const y = (/** @type {number} */ value) => height - 1.5 - (value / most) * room;
  if (line.ceiling !== null) {
    paper.globalAlpha = 0.55;
    paper.strokeStyle = colour("--line-strong");
    paper.setLineDash([2, 3]);
    paper.beginPath();
    paper.moveTo(0, y(line.ceiling) + 0.5);
    paper.lineTo(width, y(line.ceiling) + 0.5);
    paper.stroke();
    paper.setLineDash([]);
    paper.globalAlpha = 1;
  }
  const step = width / Math.max(1, line.values.length - 1);
  paper.strokeStyle = paper.fillStyle = colour(line.paint);
  paper.lineWidth = 1.5;
  paper.lineJoin = "round";
  for (const [first, run] of runs(line.values)) {
    const points = run.map((value, index) => /** @type {const} */ ([(first + index) * step, y(value)]));
    if (points.length === 1) points.push([points[0][0] + 1.5, points[0][1]]);
    paper.beginPath();
    points.forEach(([x, up]) => paper.lineTo(x, up));
    paper.stroke();
    paper.lineTo(points[points.length - 1][0], height);
    paper.lineTo(points[0][0], height);
    paper.globalAlpha = 0.14;
    paper.fill();
    paper.globalAlpha = 1;
  }
}

/** The stretches without a gap, each with the index of its first. @param {(number | null)[]} values @returns {[number, number[]][]} */
export function runs(values) {
  /** @type {[number, number[]][]} */
  const found = [];
  let open = false;
  values.forEach((value, index) => {
    if (value === null) open = false;
    else if (open) found[found.length - 1][1].push(value);
    else {
      found.push([index, [value]]);
      open = true;
    }
  });
  return found;
}
