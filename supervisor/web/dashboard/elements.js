// @ts-check
/** Making and changing elements. Whatever comes from outside becomes text, never markup. */

import { pieces } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. `class`, `text` and listeners (`onclick`) are known; the rest are attributes, and
 * `false`, `null` and `undefined` leave one out.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} [attributes] @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** @param {string} tag @param {Record<string, string | number>} attributes @param {...Node} children */
export function makeSvg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** A drawing of index.html's sprite; it says nothing by itself. @param {string} name */
export function icon(name) {
  return makeSvg(
    "svg",
    { class: "icon", "aria-hidden": "true", viewBox: "0 0 16 16" },
    makeSvg("use", { href: `#icon-${name}` }),
  );
}

/** Show another drawing. @param {Element} drawing of `icon` @param {string} name */
export function setIcon(drawing, name) {
  setAttribute(/** @type {Element} */ (drawing.firstElementChild), "href", `#icon-${name}`);
}

/** The element of the page with this id. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** Write a text, and touch nothing where it stands already. @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} element @param {string} name @param {string | null} value null takes it away */
export function setAttribute(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** @param {HTMLElement} element @param {boolean} shown */
export function setShown(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Write a sentence whose commands stand in backticks. @param {HTMLElement} element @param {string} text */
export function setProse(element, text) {
  if (element.dataset.prose === text) return;
  element.dataset.prose = text;
  element.replaceChildren(
    ...pieces(text).map((part) => (part.code ? make("code", { text: part.text }) : part.text)),
  );
}

/**
 * The children of one element, each kept for as long as its key is there.
 * @template T
 */
export class Keyed {
  /**
   * @param {HTMLElement} parent
   * @param {(item: T) => string} key
   * @param {(item: T) => {element: HTMLElement, show: (item: T) => void}} build
   */
  constructor(parent, key, build) {
    this.parent = parent;
    this.head = parent.lastElementChild; // what stands there from the beginning, as the head of a table
    this.key = key;
    this.build = build;
    /** @type {Map<string, {element: HTMLElement, show: (item: T) => void, item: T | null}>} */
    this.views = new Map();
  }

  /** Show these, in this order; a view whose item is the same value as before is left alone. @param {T[]} items */
  show(items) {
    const wanted = new Set(items.map(this.key));
    for (const [key, view] of this.views) {
      if (wanted.has(key)) continue;
      view.element.remove();
      this.views.delete(key);
    }
    let next = this.head === null ? this.parent.firstElementChild : this.head.nextElementSibling;
    for (const item of items) {
      const view = this.views.get(this.key(item)) ?? this.#built(item);
      if (view.item !== item) {
        view.item = item;
        view.show(item);
      }
      if (view.element === next) next = next.nextElementSibling;
      else this.#place(view.element, next);
    }
  }

  /** An element that is moved loses the focus, which whoever works by keyboard would have to find again. @param {HTMLElement} element @param {Element | null} next */
  #place(element, next) {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    this.parent.insertBefore(element, next);
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  }

  /** @param {T} item */
  #built(item) {
    const view = { ...this.build(item), item: null };
    this.views.set(this.key(item), view);
    return view;
  }
}
