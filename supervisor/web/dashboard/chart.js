// @ts-check
/** The memory around an incident, drawn by uPlot. */

import { clock, size } from "./format.js";
import { colour, onColours } from "./palette.js";
import uPlot from "./vendor/uPlot.esm.js";

/** @import {Sample, Incident} from "./types.js" */

/** @typedef {{label: string, paint: string, dash: boolean, values: (number | null)[]}} Series */
/** @typedef {{at: number[], series: Series[], summary: string}} Drawn */

/**
 * The lines of an incident: of its worker, else of its GPU, else of the host.
 * @param {Sample[]} samples @param {Incident} incident @param {{memory: number | null, vram: number | null}} caps
 * @returns {Drawn}
 */
export function seriesOf(samples, incident, caps) {
  const rows = samples.filter(({ row }) => isOf(row, incident)).sort((one, two) => one.wall_s - two.wall_s);
  const at = rows.map((sample) => sample.wall_s);
  const line = (/** @type {string} */ label, /** @type {string} */ paint, /** @type {string} */ key) => ({
    label,
    paint,
    dash: false,
    values: rows.map(({ row }) => row[key] ?? null),
  });
  const flat = (
    /** @type {string} */ label,
    /** @type {string} */ paint,
    /** @type {number | null} */ value,
  ) => ({ label, paint, dash: true, values: at.map(() => value) });
  const all = incident.worker
    ? [
        line("memory", "--level-normal", "memory_bytes"),
        flat("memory cap", "--level-normal", caps.memory),
        line("VRAM", "--second", "vram_bytes"),
        flat("VRAM cap", "--second", caps.vram),
      ]
    : incident.gpu
      ? [line("GPU memory used", "--level-normal", "memory_used_bytes")]
      : [line("host memory available", "--level-normal", "memory_available_bytes")];
  const series = all.filter((one) => one.values.some((value) => value !== null && value > 0));
  return { at: series.length ? at : [], series, summary: summary(series) };
}

/** @param {Record<string, any>} row @param {Incident} incident */
function isOf(row, incident) {
  if (incident.worker) return row.type === "worker" && row.worker === incident.worker;
  return incident.gpu ? row.type === "gpu" && row.gpu === incident.gpu : row.type === "host";
}

/** @param {Series[]} series */
function summary(series) {
  const words = series
    .filter((one) => !one.dash)
    .map((one) => `${one.label} at most ${size(Math.max(...one.values.map((value) => value ?? 0)))}`);
  return words.length ? words.join(", ") : "No readings were kept of this time.";
}

export class Chart {
  /** @param {HTMLElement} parent @param {Drawn} drawn @param {Incident} incident */
  constructor(parent, drawn, incident) {
    this.parent = parent;
    this.drawn = drawn;
    this.incident = incident;
    this.plot = this.#made();
    this.watch = new ResizeObserver(() =>
      this.plot.setSize({ width: parent.clientWidth || 300, height: this.#height() }),
    );
    this.watch.observe(parent);
    this.forgetColours = onColours(() => this.plot.redraw());
  }

  #height() {
    return this.parent.clientWidth < 500 ? 180 : 230;
  }

  #made() {
    const { at, series } = this.drawn;
    const axis = {
      stroke: () => colour("--text-muted"),
      grid: { stroke: () => colour("--line"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    /** @type {any} */
    const options = {
      width: this.parent.clientWidth || 600,
      height: this.#height(),
      legend: { live: true },
      cursor: { drag: { setScale: false }, points: { size: 6 } },
      scales: {
        y: {
          range: (/** @type {unknown} */ _, /** @type {unknown} */ __, /** @type {number} */ most) => [
            0,
            most * 1.08 || 1,
          ],
        },
      },
      axes: [
        {
          ...axis,
          values: (/** @type {unknown} */ _, /** @type {number[]} */ splits) =>
            splits.map((split) => clock(split)),
          space: 80,
          size: 34,
        },
        {
          ...axis,
          values: (/** @type {unknown} */ _, /** @type {number[]} */ splits) =>
            splits.map((split) => size(split)),
          size: 70,
          incrs: steps(),
        },
      ],
      series: [
        {
          label: "time",
          value: (/** @type {unknown} */ _, /** @type {number | null} */ value) =>
            value === null ? "–" : clock(value),
        },
        ...series.map((one) => ({
          label: one.label,
          stroke: () => colour(one.paint),
          width: one.dash ? 1 : 2,
          dash: one.dash ? [4, 4] : undefined,
          points: { show: at.length < 3 && !one.dash },
          value: (
            /** @type {unknown} */ _,
            /** @type {number | null} */ value,
            /** @type {number} */ __,
            /** @type {number | null} */ index,
          ) => (index === null ? "–" : value === null ? "unknown" : size(value)),
        })),
      ],
      hooks: { draw: [(/** @type {any} */ plot) => marks(plot, this.incident)] },
    };
    const Plot = /** @type {any} */ (uPlot);
    return new Plot(options, [at, ...series.map((one) => one.values)], this.parent);
  }

  close() {
    this.watch.disconnect();
    this.forgetColours();
    this.plot.destroy();
  }
}

/** Steps of an axis of bytes: powers of two, whose labels are round. */
function steps() {
  const found = [];
  for (let power = 10; power < 44; power += 1) found.push(2 ** power);
  return found;
}

/** Upright lines where it began and where it ended. @param {any} plot @param {Incident} incident */
function marks(plot, { opened_wall_s: opened, closed_wall_s: closed }) {
  const { ctx: paper, bbox } = plot;
  for (const [at, paint] of /** @type {[number | null, string][]} */ ([
    [opened, "--level-critical"],
    [closed, "--level-normal"],
  ])) {
    if (at === null) continue;
    const x = Math.round(plot.valToPos(at, "x", true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    paper.save();
    paper.strokeStyle = colour(paint);
    paper.lineWidth = devicePixelRatio || 1;
    paper.beginPath();
    paper.moveTo(x, bbox.top);
    paper.lineTo(x, bbox.top + bbox.height);
    paper.stroke();
    paper.restore();
  }
}
