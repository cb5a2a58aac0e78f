// @ts-check
/** Puts the page together: what the link tells becomes state, and each part shows its own of it. */

import { Actions } from "./actions.js";
import { Alerts } from "./alerts.js";
import { Courses } from "./courses.js";
import { byId, setAttribute, setShown, setText } from "./elements.js";
import { clock } from "./format.js";
import { freshness } from "./freshness.js";
import { Gauges } from "./gauges.js";
import { IncidentDialog } from "./incident_dialog.js";
import { Incidents } from "./incidents.js";
import { Link } from "./link.js";
import { Overview } from "./overview.js";
import { startPalette } from "./palette.js";
import { liveAddress } from "./server.js";
import { SigningIn } from "./signing_in.js";
import { NOTHING, after } from "./state.js";
import { Ticker } from "./ticker.js";
import { Workers } from "./workers.js";

const SAID_MS = 6000;

let state = NOTHING;
/** @type {import("./freshness.js").Freshness} */
let fresh = { kind: "connecting", sinceMs: null, why: "" };
let asked = false; // a frame is on its way
let anew = false; // there are new courses
let saying = 0;

startPalette();
const courses = new Courses(() => {
  anew = true;
  askToShow();
});
const overview = new Overview();
const gauges = new Gauges(courses);
const actions = new Actions(say, () => signingIn.check());
const workers = new Workers(courses, (wish, worker) => actions.confirm(wish, worker));
const dialog = new IncidentDialog(caps, gpuName);
const incidents = new Incidents((id) => dialog.open(id), gpuName);
const alerts = new Alerts();
const ticker = new Ticker();
const link = new Link(liveAddress(), hear, linkChanged);
const signingIn = new SigningIn(() => link.retryNow());

byId("retry").addEventListener("click", () => link.retryNow());
setInterval(showFreshness, 1000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && link.state.kind === "live") refresh();
});
signingIn.check().then((free) => free && link.retryNow());

/** @param {any} message */
function hear(message) {
  if (message.type === "snapshot") refresh();
  if (message.type === "event") {
    ticker.add(message.event);
    if (message.event.incident) incidents.refreshSoon();
  }
  const next = after(state, message);
  if (next === state) return;
  state = next;
  askToShow();
}

/** What a worker is held to now. @param {string} name */
function caps(name) {
  const worker = state.status?.workers.find((one) => one.name === name);
  return { memory: worker?.memory_cap_bytes ?? null, vram: worker?.vram_cap_bytes ?? null };
}

/** What a GPU is called on this page. @param {string} uuid */
function gpuName(uuid) {
  const gpu = state.status?.gpus.find((one) => one.uuid === uuid);
  return gpu === undefined ? uuid : `GPU ${gpu.index}`;
}

/** What is not in the stream; also after the link was lost, since then something was missed. */
function refresh() {
  courses.refresh();
  incidents.refresh();
  ticker.refresh();
}

/** A refused link may be one that wants a token. @param {import("./link.js").LinkState} now */
async function linkChanged(now) {
  showFreshness();
  if (now.kind === "lost" && now.retryMs !== null && !(await signingIn.check()))
    link.rest("a token is needed");
}

/** Show once a frame at most, however much is told. */
function askToShow() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(show);
}

function show() {
  asked = false;
  if (state.status === null) return;
  showFreshness();
  overview.show(state, fresh);
  gauges.show(state.status, anew);
  workers.show(state.status, anew);
  alerts.show(state.alerts);
  anew = false;
  setAttribute(byId("main"), "aria-busy", null);
}

function showFreshness() {
  const before = fresh;
  fresh = freshness(before, link.state, state.status, Date.now());
  if (fresh.kind !== before.kind) askToShow();
  const since = fresh.sinceMs === null ? "" : ` since ${clock(fresh.sinceMs / 1000)}`;
  setAttribute(document.documentElement, "data-link", fresh.kind);
  setText(byId("link-word"), `${fresh.kind}${since}`);
  setText(byId("link-why"), fresh.why);
  setShown(byId("link-why"), fresh.why !== "");
  setShown(byId("retry"), link.state.kind === "lost" && link.state.retryMs !== null);
  const takenS = state.status === null ? null : Date.parse(state.status.taken_at) / 1000;
  setText(byId("taken-at"), takenS === null ? "" : `read ${clock(takenS)}`);
}

/** @param {string} text */
function say(text) {
  clearTimeout(saying);
  setText(byId("toast"), text);
  saying = setTimeout(() => setText(byId("toast"), ""), SAID_MS);
}
