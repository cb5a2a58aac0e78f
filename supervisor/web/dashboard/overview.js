// @ts-check
/** What is read first: the banner, the one sentence, and what needs a look. */

import { points, verdict } from "./attention.js";
import { Keyed, byId, icon, make, setAttribute, setIcon, setProse, setShown, setText } from "./elements.js";
import { span } from "./format.js";
import { banner } from "./pressure.js";

/** @import {State} from "./state.js" */
/** @import {Status} from "./types.js" */
/** @import {Point} from "./attention.js" */
/** @import {Banner} from "./pressure.js" */
/** @import {Freshness} from "./freshness.js" */

const ICONS = /** @type {Record<string, string>} */ ({
  normal: "ok",
  info: "info",
  high: "high",
  critical: "critical",
  extreme: "extreme",
});

export class Overview {
  constructor() {
    this.banner = byId("banner");
    this.bannerIcon = icon("high");
    byId("banner-icon").append(this.bannerIcon);
    this.verdictIcon = icon("ok");
    byId("verdict-icon").append(this.verdictIcon);
    this.points = new Keyed(byId("points"), pointKey, buildPoint);
    this.said = "";
  }

  /** @param {State} state @param {Freshness} freshness */
  show({ status, alerts }, freshness) {
    if (status === null) return;
    const found = points(status, alerts);
    const told = banner(status);
    const { level, title, detail } = verdict(status, found, { banner: told, freshness });
    setAttribute(byId("verdict"), "data-level", level);
    setIcon(this.verdictIcon, ICONS[level] ?? "info");
    setText(byId("verdict-title"), title);
    setText(byId("verdict-detail"), detail);
    this.points.show(found);
    setShown(byId("points"), found.length > 0);
    this.#showBanner(told);
    const first = told?.title ?? (level === "normal" ? "" : title);
    const page = [first, "gpu-supervisor"].filter(Boolean).join(" · ");
    if (document.title !== page) document.title = page;
    setText(byId("about"), about(status));
  }

  /** @param {Banner | null} told */
  #showBanner(told) {
    setShown(this.banner, told !== null);
    this.#say(
      told?.key ?? "",
      told
        ? `${told.level === "high" ? "Warning" : "Alarm"}: ${told.title}. ${told.degradation}`
        : "Memory is below 80 % again",
    );
    if (told === null) return;
    setAttribute(this.banner, "data-level", told.level);
    setIcon(this.bannerIcon, ICONS[told.level]);
    setText(byId("banner-level"), told.level === "high" ? "Warning" : "Alarm");
    setText(byId("banner-title"), told.title);
    setText(byId("banner-degradation"), told.degradation);
  }

  /** Have it read aloud, once for each change that matters and not for every percent. @param {string} key @param {string} text */
  #say(key, text) {
    if (key === this.said) return;
    this.said = key;
    setText(byId("banner-said"), text);
  }
}

/** @param {Status} status */
function about(status) {
  return [
    `gpu-supervisor ${status.version}`,
    `launcher ${status.launcher}`,
    `up ${span(status.uptime_s)}`,
    status.config,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** @param {Point} point */
function pointKey(point) {
  return `${point.subject} ${point.text}`;
}

/** @param {Point} point */
function buildPoint(point) {
  const text = make("span", { class: "point-text" });
  setProse(text, point.text);
  const element = make(
    "li",
    { class: "point", "data-level": point.urgency },
    make("span", { class: "point-icon" }),
    make("strong", { text: point.subject }),
    text,
  );
  /** @type {HTMLElement} */ (element.firstElementChild).append(
    icon(ICONS[point.urgency]),
    make("span", { class: "unseen", text: point.urgency === "info" ? "note" : point.urgency }),
  );
  return { element, show: () => {} };
}
