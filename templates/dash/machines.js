// A card for each machine: its state, what is broken, its buttons, and the place of its pods.

import { $, byNumber, make, objects, write } from "./page.js";
import { act, activeFaults, describe } from "./faults.js";

export const cards = new Map(), NOWHERE = "not placed yet";

function stateOf(name) {
  const machine = objects.machine.get(name), node = objects.node.get(name);
  if (machine?.power === "Off") return ["off", "off"];
  if (machine?.power === "Paused") return ["paused", "paused"];
  if (!node) return ["starting", machine ? machine.phase || "starting" : "gone"];
  if (!node.ready) return ["silent", "not ready"];
  return ["ready", node.unschedulable ? "ready, cordoned" : "ready"];
}

export function drawMachines() {
  const names = [...new Set([...objects.machine.keys(), ...objects.node.keys()])].sort(byNumber);
  for (const [name, card] of cards) if (name !== NOWHERE && !names.includes(name)) { card.root.remove(); cards.delete(name); }
  names.forEach((name, place) => {
    const card = cards.get(name) || newCard(name);
    if ($("machines").children[place] !== card.root) $("machines").insertBefore(card.root, $("machines").children[place] || null);
    const [state, words] = stateOf(name);
    card.root.dataset.state = state;
    write(card.state, words);
    const machine = objects.machine.get(name);
    const faults = activeFaults().filter(fault => fault.target === name || fault.peer === name);
    write(card.broken, faults.map(describe).join(", ") || (machine?.message && state !== "ready" ? machine.message : ""));
    card.heal.hidden = faults.length === 0;
    card.heal.faults = faults.map(fault => fault.key);
    for (const button of card.breaks) button.disabled = !machine || state === "off" || faults.some(fault => fault.type === button.name);
  });
}

function newCard(name) {
  const root = make("article", "", { class: "machine" }), title = make("h3");
  title.append(make("span", name), make("span", "", { class: "state" }));
  root.setAttribute("aria-label", name);
  const pods = make("ul", "", { class: "pods", tabindex: "0", "aria-label": `pods on ${name}` });
  pods.addEventListener("keydown", walk);
  root.append(title, make("p", "", { class: "broken" }), pods);
  const card = { root, state: title.lastChild, broken: root.children[1], pods, breaks: [], heal: make("button", "Heal", { type: "button", class: "heal", "aria-label": `Heal ${name}` }) };
  if (name !== NOWHERE) {
    const buttons = make("div", "", { class: "buttons" });
    for (const [type, words] of [["power-off", "Power off"], ["pause", "Pause"], ["cut", "Cut"], ["reset", "Reset"]]) {
      const button = make("button", words, { type: "button", name: type, "aria-label": `${words} ${name}` });
      button.addEventListener("click", () => act(button, "faults", { type, target: name, duration: type === "reset" ? "" : $("duration").value }));
      card.breaks.push(button);
    }
    card.heal.hidden = true;
    card.heal.addEventListener("click", async () => { for (const key of card.heal.faults) await act(card.heal, "heal", { name: key }); });
    buttons.append(...card.breaks, card.heal);
    root.append(buttons);
  }
  cards.set(name, card);
  return card;
}

export function nowhere() {
  const card = newCard(NOWHERE);
  card.root.dataset.state = "starting";
  $("machines").append(card.root);
  return card;
}

function walk(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const all = [...event.currentTarget.children];
  if (!step || all.length === 0) return;
  event.preventDefault();
  const at = all.indexOf(document.activeElement);
  all[at < 0 ? 0 : (at + step + all.length) % all.length].focus();
}

export function drawSummary() {
  const ready = [...cards.values()].filter(card => card.root.dataset.state === "ready").length;
  const pods = [...objects.pod.values()], well = pods.filter(pod => pod.state === "ready").length;
  write($("summary"), `${ready} of ${new Set([...objects.machine.keys(), ...objects.node.keys()]).size} machines ready, ${well} of ${pods.length} pods ready`);
}
