// Services, their endpoints, and the links between them, which show where new connections go.

import { $, byNumber, dirty, make, objects, plan, write } from "./page.js";
import { chips } from "./pods.js";

const serviceCards = new Map();
let chosen = "", flow = new Map();

function endpointsOf(service) {
  const found = [];
  for (const slice of objects.endpoints.values()) if (slice.service === service) found.push(...slice.endpoints);
  return found;
}

export function drawServices() {
  const shown = [...objects.service.values()].filter(service => service.address && service.address !== "None").sort((a, b) => byNumber(a.key, b.key)).slice(0, 200);
  const keys = new Set(shown.map(service => service.key));
  for (const [key, card] of serviceCards) if (!keys.has(key)) { card.remove(); serviceCards.delete(key); }
  shown.forEach((service, place) => {
    const card = serviceCards.get(service.key) || newService(service.key);
    if ($("services").children[place] !== card) $("services").insertBefore(card, $("services").children[place] || null);
    const all = endpointsOf(service.key), ready = all.filter(([, , serves]) => serves);
    card.links = ready.map(([pod, address]) => [pod, address]).filter(([pod]) => pod);
    card.dataset.broken = all.length > 0 && ready.length === 0;
    write(card.children[1], `${service.address} ${service.ports.join(" ")}`);
    const rate = rateOf(service.key);
    write(card.children[2], `${ready.length} of ${all.length} answer${rate ? ` · ${rate.toFixed(rate < 10 ? 1 : 0)} new connections/s` : ""}`);
  });
  $("no-services").hidden = shown.length > 0;
}

function newService(key) {
  const card = make("button", "", { class: "service", type: "button", "aria-pressed": "false" });
  card.append(make("b", key), make("span"), make("span"));
  card.addEventListener("click", () => choose(key));
  serviceCards.set(key, card);
  return card;
}

function choose(key) {
  chosen = chosen === key ? "" : key;
  for (const [name, card] of serviceCards) card.setAttribute("aria-pressed", String(name === chosen));
  planLinks();
}

let linksPlanned = false;
export function planLinks() {
  if (linksPlanned) return;
  linksPlanned = true;
  requestAnimationFrame(() => { linksPlanned = false; drawLinks(); });
}

function drawLinks() {
  const links = [...serviceCards].filter(([key]) => !chosen || key === chosen).flatMap(([key, card]) => card.links.map(([pod, address]) => [key, card, pod, address]));
  const marked = new Set(chosen ? links.map(([, , pod]) => pod) : []);
  for (const [key, chip] of chips) chip.classList.toggle("marked", marked.has(key));
  const paths = [], wanted = getComputedStyle($("links")).display !== "none" && links.length <= (chosen ? 500 : 60) ? links : [];
  const origin = wanted.length ? $("picture").getBoundingClientRect() : null;
  const boxes = wanted.map(([, card, pod]) => [card.getBoundingClientRect(), chips.get(pod)?.getBoundingClientRect()]);
  wanted.forEach(([key, , pod, address], at) => {
    const [from, to] = boxes[at];
    if (!to) return;
    const x1 = from.left + from.width / 2 - origin.left, y1 = from.bottom - origin.top, x2 = to.left + to.width / 2 - origin.left, y2 = to.top - origin.top;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M${x1} ${y1}C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2}`);
    const rate = flow.get(`${key} ${address}`) || 0;
    if (rate) { path.setAttribute("class", "flow"); path.style.strokeWidth = `${1.5 + Math.min(6, Math.log2(1 + rate))}`; }
    path.dataset.pod = pod;
    paths.push(path);
  });
  $("links").replaceChildren(...paths);
}

function rateOf(service) {
  let sum = 0;
  for (const [key, rate] of flow) if (key.startsWith(`${service} `)) sum += rate;
  return sum;
}

export function takeFlow(rows) {
  flow = new Map(rows.map(([service, address, rate]) => [`${service} ${address}`, rate]));
  dirty.add("service");
  plan();
}
