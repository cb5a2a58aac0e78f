// @ts-check
/** What an operator can wish for a worker. */

import { icon, make, setAttribute, setIcon, setShown, setText } from "./elements.js";

/** @import {Worker} from "./types.js" */

/** One button is both stop and start, so that the focus stays where it is. */
export class Buttons {
  /** @param {string} name @param {(wish: string) => void} act */
  constructor(name, act) {
    this.name = name;
    this.restart = button("restart", name, act);
    this.toggle = button("stop", name, act);
    this.reset = button("reset", name, act);
    this.element = make(
      "div",
      { class: "buttons", role: "group", "aria-label": `Actions on ${name}` },
      this.restart.element,
      this.toggle.element,
      this.reset.element,
    );
  }

  /** @param {Worker} worker @param {boolean} quarantined one of its GPUs is: reset frees that too */
  show(worker, quarantined) {
    this.toggle.become(worker.phase === "stopped" ? "start" : "stop");
    setShown(this.reset.element, worker.held !== null || worker.rung > 0 || quarantined);
    setAttribute(this.reset.element, "data-urgent", worker.held !== null ? "" : null);
  }
}

/** @param {string} first @param {string} name @param {(wish: string) => void} act */
function button(first, name, act) {
  let wish = "";
  const drawing = icon(first);
  const word = make("span");
  const element = make("button", { type: "button", class: "small", onclick: () => act(wish) }, drawing, word);
  const become = (/** @type {string} */ next) => {
    if (next === wish) return;
    wish = next;
    setIcon(drawing, wish);
    setText(word, wish[0].toUpperCase() + wish.slice(1));
    setAttribute(element, "aria-label", `${wish[0].toUpperCase()}${wish.slice(1)} ${name}`);
    setAttribute(element, "data-wish", wish);
  };
  become(first);
  return { element, become };
}
