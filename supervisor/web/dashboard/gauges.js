// @ts-check
/** The host and each GPU: how full, how hot, how busy. */

import { OLD_S } from "./attention.js";
import { Keyed, byId, setAttribute, setShown, setText } from "./elements.js";
import { clock, size, span } from "./format.js";
import { Gauge } from "./gauge.js";
import { gpuShare, hostShare } from "./pressure.js";

/** @import {Host, Gpu, Status} from "./types.js" */
/** @import {Courses} from "./courses.js" */

/** @param {Gauge} gauge @param {Host} host @param {Courses} courses */
function showHost(gauge, host, courses) {
  const { memory_total_bytes: total, memory_available_bytes: available, missing } = host;
  const used = total === null || available === null ? null : total - available;
  gauge.showHead("memory, swap and stalls", host.pressure);
  gauge.showNote("");
  gauge.showMemory(
    hostShare(host),
    used,
    total,
    missing.memory_available_bytes ?? missing.memory_total_bytes,
  );
  gauge.showRow("available", {
    text: available === null ? null : size(available),
    why: missing.memory_available_bytes,
  });
  gauge.showRow("swap used", {
    text: host.swap_used_bytes === null ? null : size(host.swap_used_bytes),
    why: missing.swap_used_bytes,
  });
  const stalled = host.psi_full_avg10;
  gauge.showRow("stalled", {
    text: stalled === null ? null : `${stalled.toFixed(1)}\u00a0%`,
    why: missing.psi_full_avg10,
    share: stalled === null ? null : stalled / 100,
    level: (stalled ?? 0) >= 10 ? "high" : "normal",
  });
  const free = courses.of("host", "", "memory_bytes", available);
  gauge.line.show(total === null ? [] : free.map((value) => (value === null ? null : total - value)), total);
}

/** @param {Gauge} gauge @param {Gpu} gpu @param {Courses} courses */
function showGpu(gauge, gpu, courses) {
  const { missing } = gpu;
  const trouble = gpu.state === "ok" ? (gpu.quarantine ? "quarantined" : "") : gpu.state;
  gauge.showHead(gpu.unified ? `${gpu.name} · memory shared with the host` : gpu.name, gpu.pressure, trouble);
  gauge.showNote(gpuNote(gpu));
  gauge.showMemory(
    gpuShare(gpu),
    gpu.memory_used_bytes,
    gpu.memory_total_bytes,
    missing.memory_used_bytes ?? missing.memory_total_bytes ?? missing.state,
  );
  const { utilization_percent: busy, temperature_c: heat, power_w: power, power_limit_w: limit } = gpu;
  gauge.showRow("busy", {
    text: busy === null ? null : `${busy.toFixed(0)}\u00a0%`,
    why: missing.utilization_percent,
    share: busy === null ? null : busy / 100,
    level: "calm",
  });
  gauge.showRow("temperature", {
    text: heat === null ? null : `${heat.toFixed(0)}\u00a0°C`,
    why: missing.temperature_c,
    share: heat === null ? null : heat / 100,
    level: (heat ?? 0) > 85 ? "high" : "calm",
  });
  const ofLimit = limit === null ? "" : ` of ${limit.toFixed(0)}`;
  gauge.showRow("power", {
    text: power === null ? null : `${power.toFixed(0)}${ofLimit}\u00a0W`,
    why: missing.power_w,
    share: power === null || !limit ? null : power / limit,
    level: power !== null && limit && power / limit > 0.95 ? "high" : "calm",
  });
  gauge.line.show(courses.of("gpu", gpu.uuid, "memory_bytes", gpu.memory_used_bytes), gpu.memory_total_bytes);
}

/** @param {Gpu} gpu */
function gpuNote(gpu) {
  const throttle = gpu.throttle ?? [];
  return [
    gpu.state === "ok" ? "" : `${gpu.state}: ${gpu.missing.state ?? "no reason given"}`,
    gpu.quarantine ? `quarantined: ${gpu.quarantine}` : "",
    gpu.read_age_s > OLD_S
      ? `stale since ${clock(Date.now() / 1000 - gpu.read_age_s)}, read ${span(gpu.read_age_s)} ago`
      : "",
    throttle.length ? `slowed down: ${throttle.join(", ")}` : "",
    gpu.last_xid ? `last Xid ${gpu.last_xid.code}: ${gpu.last_xid.text}` : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

export class Gauges {
  /** @param {Courses} courses */
  constructor(courses) {
    this.courses = courses;
    this.host = new Gauge("Host", ["available", "swap used", "stalled"]);
    this.list = new Keyed(
      byId("gauges"),
      (/** @type {{key: string, host?: Host, gpu?: Gpu}} */ one) => one.key,
      (one) => this.#build(one),
    );
    /** @type {WeakMap<object, {key: string, host?: Host, gpu?: Gpu}>} */
    this.items = new WeakMap();
  }

  /** @param {{key: string, gpu?: Gpu}} one */
  #build(one) {
    const gauge =
      one.gpu === undefined ? this.host : new Gauge(`GPU ${one.gpu.index}`, ["busy", "temperature", "power"]);
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
    this.list.show([
      this.#item("host", status.host, "host"),
      ...status.gpus.map((gpu) => this.#item(gpu.uuid, gpu, "gpu")),
    ]);
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
