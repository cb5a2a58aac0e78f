// @ts-check
/** Who may see and do what: the session, and the dialog that asks for the token. */

import { byId, setAttribute, setShown, setText } from "./elements.js";
import { session as ask, signIn, signOut } from "./server.js";

export class SigningIn {
  /** @param {() => void} enter is called once there is nothing in the way */
  constructor(enter) {
    this.enter = enter;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("sign-in"));
    this.token = /** @type {HTMLInputElement} */ (byId("sign-in-token"));
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    byId("sign-in-open").addEventListener("click", () => this.open());
    byId("sign-out").addEventListener("click", async () => {
      await signOut().catch(() => null);
      location.reload();
    });
  }

  /** Ask the server where we stand; true where the page may go on. */
  async check() {
    const found = await ask().catch(() => null);
    if (found === null) return true; // it is away: the link says so, and tries again
    const needed = found.token_needed && !found.signed_in;
    setAttribute(document.documentElement, "data-read-only", found.allow_actions ? null : "");
    setShown(byId("read-only"), !found.allow_actions);
    setShown(byId("sign-out"), found.token_needed && found.signed_in);
    setShown(byId("sign-in-open"), needed);
    if (needed) this.open();
    return !needed;
  }

  open() {
    this.token.value = "";
    this.#complain("");
    if (!this.dialog.open) this.dialog.showModal();
  }

  async #send() {
    try {
      await signIn(this.token.value);
      this.token.value = "";
      this.dialog.close();
      if (await this.check()) this.enter();
    } catch (refused) {
      this.#complain(/** @type {Error} */ (refused).message);
      this.token.select();
    }
  }

  /** @param {string} text */
  #complain(text) {
    setText(byId("sign-in-fault"), text);
    setShown(byId("sign-in-fault"), text !== "");
  }
}
