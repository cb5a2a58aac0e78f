// @ts-check
/** What is asked of the server by HTTP. */

/** @import {Session, Incident, Detail, Course, Told} from "./types.js" */

/** No connection is waited for without end: a browser has few to one server. The server gives the daemon 12 s. */
const ANSWER_MS = 20_000;

/** The server did not do it, and says why. */
export class Refused extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  /** Whether it may have been done all the same: the answer is what is missing. */
  get isDoubtful() {
    return this.status === 0 || this.status >= 500;
  }
}

/** An address below the page's own, so that the page also works behind a proxy's path. @param {string} path */
export function address(path) {
  return new URL(path, document.baseURI);
}

/** The address of the live link. */
export function liveAddress() {
  const url = address("ws");
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/**
 * @param {string} path @param {{method?: string, body?: unknown}} [options]
 * @returns {Promise<any>}
 */
async function ask(path, { method = "GET", body } = {}) {
  const answer = await fetch(address(path), {
    method,
    credentials: "same-origin",
    signal: AbortSignal.timeout(ANSWER_MS),
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  }).catch(() => {
    throw new Refused(0, "the server does not answer");
  });
  const isJson = /[/+]json/.test(answer.headers.get("Content-Type") ?? "");
  const document = isJson ? await answer.json().catch(() => null) : null;
  if (isJson && document === null) throw new Refused(0, "the server's answer broke off");
  if (!answer.ok)
    throw new Refused(answer.status, document?.detail || document?.title || `status ${answer.status}`);
  return document;
}

/** @returns {Promise<Session>} */
export const session = () => ask("api/v1/session");

/** @param {string} token */
export const signIn = (token) => ask("api/v1/session", { method: "POST", body: { token } });

export const signOut = () => ask("api/v1/session", { method: "DELETE" });

/** @param {string} worker @param {string} wish @param {{reason?: string, now?: boolean}} body */
export const wish = (worker, wish, body) =>
  ask(`api/v1/workers/${encodeURIComponent(worker)}/${wish}`, { method: "POST", body });

/** @param {string} since @param {number} limit @returns {Promise<Incident[]>} */
export const incidents = async (since, limit) =>
  (await ask(`api/v1/history?since=${since}&limit=${limit}`)).incidents;

/** @param {string} id @returns {Promise<Detail>} */
export const incident = (id) => ask(`api/v1/history/${encodeURIComponent(id)}`);

/** @param {string} since @param {number} slotS @returns {Promise<Course[]>} */
export const courses = async (since, slotS) =>
  (await ask(`api/v1/courses?since=${since}&slot=${slotS}`)).courses;

/** @param {number} limit @returns {Promise<Told[]>} */
export const events = async (limit) => (await ask(`api/v1/events?limit=${limit}`)).events;
