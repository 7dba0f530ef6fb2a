// What all parts of the page share: the objects that the stream told, how an element is made, and when what changed is drawn.
//
// Every text comes from objects that anybody may have written: it is put into the page as text, never as markup.

export const objects = Object.fromEntries(["machine", "node", "pod", "service", "endpoints", "fault", "event"].map(kind => [kind, new Map()]));
export const dirty = new Set(), changedPods = new Set();
export const page = { guard: "", clockAhead: 0, drawn: false };
export const calm = matchMedia("(prefers-reduced-motion: reduce)");

export const $ = id => document.getElementById(id);
export const now = () => Date.now() + page.clockAhead;

export function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const byNumber = new Intl.Collator("en", { numeric: true }).compare;

// ---- drawing, once a frame

let parts = [], planned = false;

// Says what is drawn: rows of the kinds that make it necessary and the function that does it, in the order in which they are done.
export function drawing(rows) {
  parts = rows;
}

export function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    const what = new Set(dirty);
    dirty.clear();
    for (const [kinds, draw] of parts) if (kinds.some(kind => what.has(kind))) draw();
    page.drawn = true;
  });
}
