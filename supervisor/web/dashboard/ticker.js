// @ts-check
/** The last things that were told, newest first. */

import { Keyed, byId, make, setShown } from "./elements.js";
import { moment } from "./format.js";
import { events as ask } from "./server.js";

/** @import {Told} from "./types.js" */

const KEPT = 40;

export class Ticker {
  constructor() {
    /** @type {Told[]} */
    this.kept = [];
    this.list = new Keyed(byId("events"), (/** @type {Told} */ told) => `${told.wall_s} ${told.seq}`, build);
  }

  /** Begin with what was told before. */
  async refresh() {
    const found = await ask(KEPT).catch(() => null);
    if (found !== null) this.#keep(found);
  }

  /** @param {Told} told */
  add(told) {
    this.#keep([told]);
  }

  /** @param {Told[]} fresh */
  #keep(fresh) {
    const byKey = new Map([...this.kept, ...fresh].map((told) => [`${told.wall_s} ${told.seq}`, told]));
    this.kept = [...byKey.values()]
      .sort((one, two) => two.wall_s - one.wall_s || two.seq - one.seq)
      .slice(0, KEPT);
    this.list.show(this.kept);
    setShown(byId("events-none"), this.kept.length === 0);
  }
}

/** @param {Told} told */
function build(told) {
  const now = Date.now() / 1000;
  const element = make(
    "li",
    { "data-level": told.level },
    make("time", { datetime: new Date(told.wall_s * 1000).toISOString(), text: moment(told.wall_s, now) }),
    make(
      "span",
      { class: "event-text" },
      make("strong", { text: [told.worker ?? "", told.event].filter(Boolean).join(" · ") }),
      make("span", { text: told.reason }),
    ),
  );
  return { element, show: () => {} };
}
