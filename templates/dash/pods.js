// A chip for each pod, on the card of its machine. One that moves, or replaces one that was lost, is seen to move.

import { $, calm, changedPods, dirty, make, objects, page, plan } from "./page.js";
import { NOWHERE, cards, nowhere } from "./machines.js";

export const chips = new Map();
const lostPlaces = new Map();

export function drawPods() {
  const places = rememberPlaces();  // all reading before all writing: the browser lays the page out once
  const moves = [];
  for (const key of changedPods) {
    const pod = objects.pod.get(key), chip = chips.get(key);
    if (!pod) {
      chip?.remove();
      chips.delete(key);
      continue;
    }
    const element = chip || newChip(key);
    const home = cards.has(pod.node) ? pod.node : NOWHERE;
    if (element.home !== home) {
      moves.push([element, chip ? places.get(key) : lostPlaces.get(pod.owner)]);
      (cards.get(home) || nowhere()).pods.append(element);
      element.home = home;
    }
    element.dataset.state = pod.state;
    element.owner = pod.owner;
    element.className = `pod ${colour(pod.owner || key)}${element.classList.contains("marked") ? " marked" : ""}`;
    element.setAttribute("aria-label", `pod ${key}, ${pod.state}${pod.restarts ? `, ${pod.restarts} restarts` : ""}`);
    element.title = `${key}: ${pod.state}${pod.why ? `: ${pod.why}` : ""}`;
  }
  changedPods.clear();
  for (const [key, chip] of chips) if (chip.home !== NOWHERE && !cards.has(chip.home)) { chip.home = ""; changedPods.add(key); }
  if (changedPods.size) { dirty.add("pod"); plan(); }
  const waiting = cards.get(NOWHERE);
  if (waiting) waiting.root.hidden = waiting.pods.childElementCount === 0;
  if (page.drawn && !calm.matches && moves.length <= 60) animate(moves);
}

// Returns where chips are that will move. Where a pod was lost is kept for a while: the one that replaces it comes from there.
function rememberPlaces() {
  const places = new Map();
  if (!page.drawn || calm.matches) return places;
  for (const key of changedPods) {
    const pod = objects.pod.get(key), chip = chips.get(key);
    if (!chip) continue;
    const lost = !pod || (pod.state === "leaving" && chip.dataset.state !== "leaving");
    if (!lost && chip.home === pod.node) continue;
    const place = chip.getBoundingClientRect();
    places.set(key, place);
    if (lost && chip.owner) { lostPlaces.delete(chip.owner); lostPlaces.set(chip.owner, place); }
  }
  while (lostPlaces.size > 100) lostPlaces.delete(lostPlaces.keys().next().value);
  return places;
}

function animate(moves) {
  const after = moves.map(([chip]) => chip.getBoundingClientRect());
  moves.forEach(([chip, from], at) => {
    const to = after[at];
    const start = from ? { transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` } : { opacity: 0 };
    chip.animate([start, { transform: "none", opacity: 1 }], { duration: from ? 700 : 300, easing: "ease-in-out" });
  });
}

function newChip(key) {
  const name = key.split("/").pop();
  const chip = make("li", name.length <= 9 ? name : name.slice(-5), { tabindex: "-1" });
  chip.key = key;
  chip.addEventListener("click", () => show(key));
  chip.addEventListener("focus", () => show(key));
  chips.set(key, chip);
  return chip;
}

function colour(text) {
  let sum = 0;
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)) >>> 0;
  return `c${(sum % 6) + 1}`;
}

function show(key) {
  const pod = objects.pod.get(key);
  if (!pod) return;
  const lines = [`pod ${key}: ${pod.state}${pod.node ? ` on ${pod.node}` : ""}${pod.ip ? `, ${pod.ip}` : ""}`];
  if (pod.owner) lines.push(`made by ${pod.owner}`);
  if (pod.restarts) lines.push(`${pod.restarts} restarts`);
  if (pod.why) lines.push(pod.why);
  $("details").replaceChildren(...lines.map(line => make("p", line)));
  $("details").hidden = false;
}
