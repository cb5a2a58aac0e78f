// @ts-check
/** The theme, and its colours for what is drawn on a canvas. */

import { byId, setAttribute, setText } from "./elements.js";

const KEY = "gpu-supervisor-theme";
const NEXT = /** @type {Record<string, string>} */ ({ auto: "light", light: "dark", dark: "auto" });
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @type {Map<string, string>} */
const colours = new Map();
/** @type {Set<() => void>} */
const watchers = new Set();

/** The colour of a custom property as a canvas takes it. @param {string} name such as `--level-high` */
export function colour(name) {
  const known = colours.get(name);
  if (known !== undefined) return known;
  const probe = byId("colour-probe");
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  colours.set(name, found);
  return found;
}

/** Be told when the colours are other ones, until the returned function is called. @param {() => void} watcher */
export function onColours(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

function repaint() {
  colours.clear();
  for (const watcher of watchers) watcher();
}

/** @param {string} theme `auto`, `light` or `dark` */
function apply(theme) {
  setAttribute(document.documentElement, "data-theme", theme === "auto" ? null : theme);
  const button = byId("theme");
  setText(byId("theme-name"), theme);
  button.setAttribute("aria-label", `Colours: ${theme}. Change to ${NEXT[theme]}`);
  button.dataset.theme = theme;
  repaint();
}

/** Let the button choose, and remember it in this browser. */
export function startPalette() {
  apply(remembered());
  dark.addEventListener("change", repaint);
  byId("theme").addEventListener("click", () => {
    const theme = NEXT[byId("theme").dataset.theme ?? "auto"];
    remember(theme);
    apply(theme);
  });
}

/** A browser may forbid to remember anything. */
function remembered() {
  try {
    const theme = localStorage.getItem(KEY) ?? "auto";
    return theme in NEXT ? theme : "auto";
  } catch {
    return "auto";
  }
}

/** @param {string} theme */
function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // then it holds until the page is loaded again
  }
}
