// @ts-check
/** The host and each GPU: how full, how hot, how busy. */

import { OLD_S } from "./attention.js";
import { Keyed, byId, icon, make, makeSvg, setAttribute, setIcon, setShown, setText } from "./elements.js";
import { clock, percent, size, sizeOf, span } from "./format.js";
import { Meter, setFigure } from "./meter.js";
import { ALARM_SHARE, WARN_SHARE, gpuShare, hostShare } from "./pressure.js";
import { Sparkline } from "./sparkline.js";

/** @import {Host, Gpu, Status, Level, Missing} from "./types.js" */
/** @import {Courses} from "./courses.js" */

const ICONS = /** @type {Record<Level, string>} */ ({ normal: "ok", high: "high", critical: "critical", extreme: "extreme" });
const RADIUS = 42;
const AROUND = 2 * Math.PI * RADIUS;
const SWEEP = 0.75; // of the whole circle

/** A ring from 0 to 100 %, with marks where the banner comes up. */
class Ring {
  /** @param {string} label */
  constructor(label) {
    const arc = (/** @type {string} */ kind) =>
      makeSvg("circle", { class: kind, cx: 50, cy: 50, r: RADIUS, fill: "none", "stroke-dasharray": `${AROUND * SWEEP} ${AROUND}`, transform: "rotate(135 50 50)" });
    this.fill = arc("ring-fill");
    this.figure = make("span", { class: "ring-figure" });
    const marks = [WARN_SHARE, ALARM_SHARE].map(mark);
    this.element = make(
      "div",
      { class: "ring", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" },
      makeSvg("svg", { viewBox: "0 0 100 100", "aria-hidden": "true" }, arc("ring-track"), this.fill, ...marks),
      make("span", { class: "ring-text" }, this.figure, make("span", { class: "ring-unit", text: "used" })),
    );
  }

  /** @param {number | null} share @param {string} text */
  show(share, text) {
    const shown = Math.min(1, Math.max(0, share ?? 0));
    setAttribute(this.fill, "stroke-dasharray", `${(AROUND * SWEEP * shown).toFixed(1)} ${AROUND}`);
    setText(this.figure, share === null ? "?" : percent(share));
    setAttribute(this.element, "aria-valuenow", String(Math.round(shown * 100)));
    setAttribute(this.element, "aria-valuetext", text);
  }
}

/** @param {number} share */
function mark(share) {
  const angle = ((135 + 360 * SWEEP * share) * Math.PI) / 180;
  const at = (/** @type {number} */ radius) => ({ x: (50 + radius * Math.cos(angle)).toFixed(2), y: (50 + radius * Math.sin(angle)).toFixed(2) });
  const [inner, outer] = [at(RADIUS + 4.5), at(RADIUS + 7.5)];
  return makeSvg("line", { class: "ring-mark", x1: inner.x, y1: inner.y, x2: outer.x, y2: outer.y });
}

/** One card. */
class Gauge {
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
      make("div", { class: "gauge-body" }, this.ring.element, make("div", { class: "gauge-side" }, this.memory, this.line.element, list)),
      this.note,
    );
  }

  /** @param {string} title @param {string} name */
  #row(title, name) {
    const figure = make("dd");
    const meter = new Meter(`${title} ${name}`, "thin");
    const row = make("div", {}, make("dt", { text: name }), figure, make("dd", { class: "figure-bar" }, meter.element));
    this.rows.set(name, { row, figure, meter });
    return row;
  }

  /** @param {Level} level @param {string} subtitle @param {string} note */
  showHead(level, subtitle, note) {
    setAttribute(this.element, "data-level", level);
    setIcon(this.levelIcon, ICONS[level] ?? "info");
    setText(this.level, level);
    setText(this.subtitle, subtitle);
    setShown(this.subtitle, subtitle !== "");
    setText(this.note, note);
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

/** @param {Gauge} gauge @param {Host} host @param {Courses} courses */
function showHost(gauge, host, courses) {
  const { memory_total_bytes: total, memory_available_bytes: available, missing } = host;
  const used = total === null || available === null ? null : total - available;
  gauge.showHead(host.pressure, "memory, swap and stalls", "");
  gauge.showMemory(hostShare(host), used, total, missing.memory_available_bytes ?? missing.memory_total_bytes);
  gauge.showRow("available", { text: available === null ? null : size(available), why: missing.memory_available_bytes });
  gauge.showRow("swap used", { text: host.swap_used_bytes === null ? null : size(host.swap_used_bytes), why: missing.swap_used_bytes });
  const stalled = host.psi_full_avg10;
  gauge.showRow("stalled", { text: stalled === null ? null : `${stalled.toFixed(1)}\u00a0%`, why: missing.psi_full_avg10, share: stalled === null ? null : stalled / 100, level: (stalled ?? 0) >= 10 ? "high" : "normal" });
  const free = courses.of("host", "", "memory_bytes", available);
  gauge.line.show(total === null ? [] : free.map((value) => (value === null ? null : total - value)), total);
}

/** @param {Gauge} gauge @param {Gpu} gpu @param {Courses} courses */
function showGpu(gauge, gpu, courses) {
  const { missing } = gpu;
  gauge.showHead(gpu.pressure, gpu.unified ? `${gpu.name} · memory shared with the host` : gpu.name, gpuNote(gpu));
  gauge.showMemory(gpuShare(gpu), gpu.memory_used_bytes, gpu.memory_total_bytes, missing.memory_used_bytes ?? missing.memory_total_bytes ?? missing.state);
  const { utilization_percent: busy, temperature_c: heat, power_w: power, power_limit_w: limit } = gpu;
  gauge.showRow("busy", { text: busy === null ? null : `${busy.toFixed(0)}\u00a0%`, why: missing.utilization_percent, share: busy === null ? null : busy / 100, level: "calm" });
  gauge.showRow("temperature", { text: heat === null ? null : `${heat.toFixed(0)}\u00a0°C`, why: missing.temperature_c, share: heat === null ? null : heat / 100, level: (heat ?? 0) > 85 ? "high" : "calm" });
  const ofLimit = limit === null ? "" : ` of ${limit.toFixed(0)}`;
  gauge.showRow("power", { text: power === null ? null : `${power.toFixed(0)}${ofLimit}\u00a0W`, why: missing.power_w, share: power === null || !limit ? null : power / limit, level: power !== null && limit && power / limit > 0.95 ? "high" : "calm" });
  gauge.line.show(courses.of("gpu", gpu.uuid, "memory_bytes", gpu.memory_used_bytes), gpu.memory_total_bytes);
}

/** @param {Gpu} gpu */
function gpuNote(gpu) {
  const throttle = gpu.throttle ?? [];
  return [
    gpu.state === "ok" ? "" : `${gpu.state}: ${gpu.missing.state ?? "no reason given"}`,
    gpu.quarantine ? `quarantined: ${gpu.quarantine}` : "",
    gpu.read_age_s > OLD_S ? `stale since ${clock(Date.now() / 1000 - gpu.read_age_s)}, read ${span(gpu.read_age_s)} ago` : "",
    throttle.length ? `slowed down: ${throttle.join(", ")}` : "",
    gpu.last_xid ? `last Xid ${gpu.last_xid.code}: ${gpu.last_xid.text}` : "",
  ].filter(Boolean).join(" · ");
}

export class Gauges {
  /** @param {Courses} courses */
  constructor(courses) {
    this.courses = courses;
    this.host = new Gauge("Host", ["available", "swap used", "stalled"]);
    this.list = new Keyed(byId("gauges"), (/** @type {{key: string, host?: Host, gpu?: Gpu}} */ one) => one.key, (one) => this.#build(one));
    /** @type {WeakMap<object, {key: string, host?: Host, gpu?: Gpu}>} */
    this.items = new WeakMap();
  }

  /** @param {{key: string, gpu?: Gpu}} one */
  #build(one) {
    const gauge = one.gpu === undefined ? this.host : new Gauge(`GPU ${one.gpu.index}`, ["busy", "temperature", "power"]);
    const show = (/** @type {{host?: Host, gpu?: Gpu}} */ { host, gpu }) => {
      if (host) showHost(gauge, host, this.courses);
      if (gpu) {
        showGpu(gauge, gpu, this.courses);
        setAttribute(gauge.element, "data-old", gpu.read_age_s > OLD_S ? "" : null);
      }
    };
    return { element: gauge.element, show };
  }

  /** @param {Status} status @param {boolean} anew also what has not changed: there are new courses */
  show(status, anew) {
    if (anew) this.items = new WeakMap();
    this.list.show([this.#item("host", status.host, "host"), ...status.gpus.map((gpu) => this.#item(gpu.uuid, gpu, "gpu"))]);
    setText(byId("gpu-missing"), status.gpu_missing ? `No GPU is watched: ${status.gpu_missing}` : "");
    setShown(byId("gpu-missing"), status.gpu_missing !== null);
  }

  /** The same item for the same value, so that what did not change is not shown again. @param {string} key @param {Host | Gpu} value @param {"host" | "gpu"} kind */
  #item(key, value, kind) {
    const known = this.items.get(value);
    if (known) return known;
    const item = { key, [kind]: value };
    this.items.set(value, item);
    return item;
  }
}
