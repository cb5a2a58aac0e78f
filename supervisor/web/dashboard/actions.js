// @ts-check
/** Asking before something is done to a worker, and doing it. */

import { byId, setAttribute, setShown, setText } from "./elements.js";
import { Refused, wish as send } from "./server.js";

/** @import {Worker} from "./types.js" */

/** @type {Record<string, {title: string, text: string, button: string, now: boolean}>} */
const WISHES = {
  restart: {
    title: "Restart",
    text: "It finishes its requests, is stopped, gives its memory back, and is started again.",
    button: "Restart",
    now: true,
  },
  stop: {
    title: "Stop",
    text: "It finishes its requests and is stopped. It stays down until somebody starts it.",
    button: "Stop",
    now: true,
  },
  start: {
    title: "Start",
    text: "It is started as soon as there is room for it.",
    button: "Start",
    now: false,
  },
  reset: {
    title: "Reset",
    text: "What is held is released, and a degraded worker gets its full settings back at its next start.",
    button: "Reset",
    now: false,
  },
};

export class Actions {
  /** @param {(text: string) => void} tell @param {() => void} signIn */
  constructor(tell, signIn) {
    this.tell = tell;
    this.signIn = signIn;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("confirm"));
    this.reason = /** @type {HTMLInputElement} */ (byId("confirm-reason"));
    this.now = /** @type {HTMLInputElement} */ (byId("confirm-now"));
    this.yes = /** @type {HTMLButtonElement} */ (byId("confirm-yes"));
    this.wish = "";
    this.worker = "";
    this.turn = 0; // which question the dialog asks
    byId("confirm-no").addEventListener("click", () => this.dialog.close());
    byId("confirm-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    // Enter that opened the dialog, and is still held down, does not confirm it.
    this.dialog.addEventListener(
      "keydown",
      (event) => event.key === "Enter" && event.repeat && event.preventDefault(),
    );
  }

  /** @param {string} wish @param {Worker} worker */
  confirm(wish, worker) {
    const said = WISHES[wish];
    this.wish = wish;
    this.worker = worker.name;
    this.turn += 1;
    setText(byId("confirm-title"), `${said.title} ${worker.name}?`);
    setText(byId("confirm-text"), said.text);
    setText(this.yes, said.button);
    setAttribute(this.yes, "data-wish", wish);
    setShown(byId("confirm-now-row"), said.now);
    this.reason.value = "";
    this.now.checked = false;
    this.#complain("");
    this.yes.disabled = false;
    this.dialog.showModal();
    this.yes.focus();
  }

  async #send() {
    const { worker, wish } = this;
    const turn = this.turn;
    const reason = this.reason.value.trim();
    const now = this.now.checked && WISHES[wish].now;
    this.yes.disabled = true;
    const fault = await send(worker, wish, { ...(reason ? { reason } : {}), ...(now ? { now } : {}) }).then(
      () => null,
      (refused) => refused,
    );
    const said = `${WISHES[wish].title} of ${worker}`;
    const here = this.dialog.open && turn === this.turn; // and the dialog asks nothing else by now
    if (fault === null) this.tell(`${said} was asked for.`);
    else {
      const doubtful = !(fault instanceof Refused) || fault.isDoubtful;
      const how = `${said} ${doubtful ? "may or may not come" : "was not done"}: ${fault.message}`;
      if (here) this.#complain(how);
      else this.tell(how);
    }
    if (here) this.yes.disabled = false;
    if (here && fault === null) this.dialog.close();
    if (fault instanceof Refused && fault.status === 401) this.signIn();
  }

  /** @param {string} text */
  #complain(text) {
    setText(byId("confirm-fault"), text);
    setShown(byId("confirm-fault"), text !== "");
  }
}
