// @ts-check
/** The last hour of every worker, GPU and of the host, asked for once a minute. */

import { courses as ask } from "./server.js";

/** @import {Course} from "./types.js" */

const SLOT_S = 60;
const SLOTS = 60;
const AGAIN_MS = 60_000;

export class Courses {
  /** @param {() => void} tell is called when there are new ones */
  constructor(tell) {
    this.tell = tell;
    /** @type {Map<string, Course>} */
    this.byKey = new Map();
    this.endS = 0; // the newest slot of all: where a course ends earlier, nothing was read since
    this.timer = 0;
  }

  /** Ask now, and then every minute while the page is looked at. */
  async refresh() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), AGAIN_MS);
    if (document.hidden) return;
    try {
      const found = await ask("1h", SLOT_S);
      this.byKey = new Map(found.map((course) => [`${course.kind} ${course.name}`, course]));
      this.endS = Math.max(0, ...found.flatMap((course) => course.at_s.slice(-1)));
      this.tell();
    } catch {
      // a small picture is missing; that the server is away is said by the link
    }
  }

  /**
   * The values of the last hour, one for each minute, and at the end what is read now.
   * @param {"worker" | "gpu" | "host"} kind @param {string} name @param {"memory_bytes" | "vram_bytes"} quantity
   * @param {number | null} now @returns {(number | null)[]}
   */
  of(kind, name, quantity, now) {
    const course = this.byKey.get(`${kind} ${name}`);
    if (course === undefined) return [now];
    return [...spread(course.at_s, course[quantity], { endS: this.endS, slotS: SLOT_S, slots: SLOTS }), now];
  }
}

/**
 * Put what is told for some slots into a row of all slots, null where nothing was read.
 * @param {number[]} atS @param {(number | null)[]} values
 * @param {{endS: number, slotS: number, slots: number}} row `endS` is the time of the last slot
 * @returns {(number | null)[]}
 */
export function spread(atS, values, { endS, slotS, slots }) {
  /** @type {(number | null)[]} */
  const row = Array(slots).fill(null);
  atS.forEach((at, index) => {
    const place = slots - 1 - Math.round((endS - at) / slotS);
    if (place >= 0 && place < slots) row[place] = values[index] ?? null;
  });
  return row;
}
