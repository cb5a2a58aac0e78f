// @ts-check
/** The live link to the server: one WebSocket, made again and again. */

/** A heartbeat comes every 5 s; two that did not come are a lost link, whatever TCP believes. */
const SILENCE_MS = 12_000;
const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/**
 * @typedef {object} LinkState
 * @property {"connecting" | "live" | "lost"} kind
 * @property {number | null} heardMs when the server was heard last
 * @property {number | null} retryMs when it is tried again
 * @property {string} why
 */

/** How long to wait before the attempt: doubled each time, less up to a half by chance. @param {number} failures @param {number} chance from 0 to 1 */
export function backoffMs(failures, chance) {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** failures) * (1 - chance / 2);
}

export class Link {
  /**
   * @param {string} url
   * @param {(message: any) => void} hear is given each message
   * @param {(state: LinkState) => void} tell is given each change of the link
   */
  constructor(url, hear, tell) {
    this.url = url;
    this.hear = hear;
    this.tell = tell;
    this.failures = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {LinkState} */
    this.state = { kind: "connecting", heardMs: null, retryMs: null, why: "" };
    this.retryTimer = 0;
    this.silenceTimer = 0;
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  /** Connect, if it is not connected. */
  retryNow() {
    if (this.socket !== null) return;
    clearTimeout(this.retryTimer);
    this.#become({ kind: this.state.heardMs === null ? "connecting" : "lost", retryMs: null });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.#listenForSilence();
    socket.onmessage = (event) => this.#heard(socket, event.data);
    socket.onclose = (event) => this.#closed(socket, event.reason);
  }

  /** Let go, until `retryNow`. @param {string} why */
  rest(why) {
    clearTimeout(this.retryTimer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.#become({ kind: "lost", retryMs: null, why });
  }

  /** @param {WebSocket} socket @param {string} text */
  #heard(socket, text) {
    if (socket !== this.socket) return;
    this.#listenForSilence();
    this.failures = 0;
    this.#become({ kind: "live", heardMs: Date.now(), retryMs: null, why: "" });
    this.hear(JSON.parse(text));
  }

  /** @param {WebSocket} socket @param {string} reason */
  #closed(socket, reason) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.silenceTimer);
    const waitMs = backoffMs(this.failures, Math.random());
    this.failures += 1;
    this.retryTimer = setTimeout(() => this.retryNow(), waitMs);
    this.#become({ kind: "lost", retryMs: Date.now() + waitMs, why: reason || "the server does not answer" });
  }

  #listenForSilence() {
    clearTimeout(this.silenceTimer);
    this.silenceTimer = setTimeout(() => {
      const silent = this.socket;
      if (silent === null) return;
      silent.close();
      this.#closed(silent, "the server has gone silent");
    }, SILENCE_MS);
  }

  /** @param {Partial<LinkState>} change */
  #become(change) {
    const before = this.state;
    this.state = { ...before, ...change };
    const told =
      this.state.kind === before.kind &&
      this.state.retryMs === before.retryMs &&
      this.state.why === before.why;
    if (!told) this.tell(this.state);
  }
}
