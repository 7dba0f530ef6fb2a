// The live page. It draws what the master's stream tells: a picture of everything, then each change.
//
//   EventSource /dash/stream ─► objects (a Map for each kind) ─► what changed is drawn at the next frame
//
// Every text comes from objects that anybody may have written: it is put into the page as text, never as markup. Nothing is asked of any other place.

const objects = Object.fromEntries(["machine", "node", "pod", "service", "endpoints", "fault", "event"].map(kind => [kind, new Map()]));
const dirty = new Set(), changedPods = new Set();
const MINUTES_5 = 300_000, calm = matchMedia("(prefers-reduced-motion: reduce)");
let guard = "", types = [], clockAhead = 0, chosen = "", flow = new Map(), drawn = false;

const $ = id => document.getElementById(id);
const now = () => Date.now() + clockAhead;

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- the stream

function listen() {
  const stream = new EventSource("/dash/stream");
  const said = (name, take) => stream.addEventListener(name, event => take(JSON.parse(event.data)));
  said("picture", takePicture);
  said("change", items => { items.forEach(take); plan(); });
  said("flow", takeFlow);
  said("requests", takeTicks);
  stream.onopen = () => connection("live", "live");
  stream.onerror = () => stream.readyState === EventSource.CLOSED
    ? connection("lost", "closed: run “labctl dash” again, or close other pages")
    : connection("lost", "the master does not answer; trying again");
}

function connection(state, text) {
  $("connection").dataset.state = state;
  write($("connection"), text);
}

function takePicture(picture) {
  for (const kind of Object.values(objects)) kind.clear();
  for (const key of chips.keys()) changedPods.add(key);  // those that are gone meanwhile are in no change
  guard = picture.guard;
  clockAhead = picture.now * 1000 - Date.now();
  write($("lab"), picture.lab);
  document.title = `labctl: ${picture.lab}`;
  if (types.length === 0) offerTypes(picture.types);
  picture.objects.forEach(take);
  Object.keys(objects).forEach(kind => dirty.add(kind));
  plan();
}

function take(item) {
  const kind = objects[item.kind];
  if (!kind) return;
  const before = kind.get(item.key);
  if (item.gone) kind.delete(item.key);
  else kind.set(item.key, item);
  if (item.kind === "pod") changedPods.add(item.key);
  if (item.kind === "event" && kind.size > 400) for (const key of kind.keys()) { kind.delete(key); if (kind.size <= 200) break; }
  if (drawn) announce(item, before);
  dirty.add(item.kind);
}

let heard = [];
function announce(item, before) {
  if (item.kind === "machine" && before && item.power !== before.power) heard.push(`${item.key} is ${item.power || "gone"}`);
  if (item.kind === "fault" && (!before || item.phase !== before.phase)) heard.push(`${item.type || ""} ${item.target || ""}: ${item.phase || "forgotten"}`);
  if (heard.length === 1) setTimeout(() => { write($("announce"), heard.slice(-6).join("; ")); heard = []; }, 800);
}

// ---- drawing, once a frame

let planned = false;
function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    const what = new Set(dirty);
    dirty.clear();
    const has = (...kinds) => kinds.some(kind => what.has(kind));
    if (has("machine", "node", "fault")) drawMachines();
    if (has("pod", "machine", "node")) drawPods();
    if (has("service", "endpoints", "pod")) drawServices();
    if (has("fault")) drawFaults();
    if (has("event", "fault")) planEvents();
    if (has("machine", "node", "pod", "service", "endpoints", "fault")) { drawSummary(); planLinks(); }
    drawn = true;
  });
}

const cards = new Map(), chips = new Map(), serviceCards = new Map(), lostPlaces = new Map();
const NOWHERE = "not placed yet";
const byNumber = new Intl.Collator("en", { numeric: true }).compare;
const activeFaults = () => [...objects.fault.values()].filter(fault => !fault.over);

function stateOf(name) {
  const machine = objects.machine.get(name), node = objects.node.get(name);
  if (machine?.power === "Off") return ["off", "off"];
  if (machine?.power === "Paused") return ["paused", "paused"];
  if (!node) return ["starting", machine ? machine.phase || "starting" : "gone"];
  if (!node.ready) return ["silent", "not ready"];
  return ["ready", node.unschedulable ? "ready, cordoned" : "ready"];
}

function drawMachines() {
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

const describe = fault => `${fault.type} ${fault.target}${fault.peer ? ` ↔ ${fault.peer}` : ""}${fault.phase === "Active" ? "" : ` (${fault.phase})`}`;

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

function drawPods() {
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
  if (drawn && !calm.matches && moves.length <= 60) animate(moves);
}

// Returns where chips are that will move. Where a pod was lost is kept for a while: the one that replaces it comes from there.
function rememberPlaces() {
  const places = new Map();
  if (!drawn || calm.matches) return places;
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

function nowhere() {
  const card = newCard(NOWHERE);
  card.root.dataset.state = "starting";
  $("machines").append(card.root);
  return card;
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

function walk(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const all = [...event.currentTarget.children];
  if (!step || all.length === 0) return;
  event.preventDefault();
  const at = all.indexOf(document.activeElement);
  all[at < 0 ? 0 : (at + step + all.length) % all.length].focus();
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

// ---- Services, their endpoints, and the links between them

function endpointsOf(service) {
  const found = [];
  for (const slice of objects.endpoints.values()) if (slice.service === service) found.push(...slice.endpoints);
  return found;
}

function drawServices() {
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
function planLinks() {
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

function takeFlow(rows) {
  flow = new Map(rows.map(([service, address, rate]) => [`${service} ${address}`, rate]));
  dirty.add("service");
  plan();
}

function drawSummary() {
  const ready = [...cards.values()].filter(card => card.root.dataset.state === "ready").length;
  const pods = [...objects.pod.values()], well = pods.filter(pod => pod.state === "ready").length;
  write($("summary"), `${ready} of ${new Set([...objects.machine.keys(), ...objects.node.keys()]).size} machines ready, ${well} of ${pods.length} pods ready`);
}

// ---- faults

async function act(button, what, body) {
  button.disabled = true;
  try {
    const answer = await fetch(`/dash/${what}`, { method: "POST", headers: { "Content-Type": "application/json", "X-Labctl-Guard": guard }, body: JSON.stringify(body) });
    const told = await answer.json();
    say(answer.ok ? (told.name ? `asked for: ${told.name}` : "healing") : told.message, answer.ok);
  } catch {
    say("the master does not answer", false);
  } finally {
    button.disabled = false;
    dirty.add("fault");
    plan();
  }
}

function say(text, good) {
  $("said").dataset.good = good;
  write($("said"), text);
}

function drawFaults() {
  const all = [...objects.fault.values()].sort((a, b) => a.over - b.over || b.at.localeCompare(a.at)).slice(0, 12);
  $("faults").replaceChildren(...all.map(fault => {
    const row = make("li", "", { "data-over": fault.over });
    row.append(make("b", `${fault.type} ${fault.target}${fault.peer ? ` ↔ ${fault.peer}` : ""}`), make("span", fault.phase), make("span", fault.message));
    if (!fault.over) {
      const button = make("button", "Heal", { type: "button", class: "heal", "aria-label": `Heal ${fault.key}` });
      button.addEventListener("click", () => act(button, "heal", { name: fault.key }));
      row.append(button);
    }
    return row;
  }));
  $("no-faults").hidden = all.length > 0;
  $("heal-all").hidden = activeFaults().length === 0;
}

function offerTypes(all) {
  types = all;
  $("type").replaceChildren(...types.map(type => make("option", type.name)));
  chooseType();
}

function chooseType() {
  const type = types.find(one => one.name === $("type").value);
  if (!type) return;
  write($("type-text"), `${type.summary} Target: ${type.targets.map(form => ({ machine: "a machine", pod: "pod/NAMESPACE/NAME", client: "client/USER" })[form] || form).join(" or ")}.`);
  $("peer-label").hidden = !type.link;
  $("for-label").hidden = type.once;
  $("parameters").replaceChildren(...Object.entries(type.parameters).map(([name, required]) => {
    const label = make("label", `${name} `), input = make("input", "", { name, size: "8", maxlength: "60", autocomplete: "off" });
    input.required = required;
    label.append(input);
    return label;
  }));
}

function submit(event) {
  event.preventDefault();
  const type = types.find(one => one.name === $("type").value);
  const parameters = Object.fromEntries([...$("parameters").querySelectorAll("input")].filter(input => input.value).map(input => [input.name, input.value]));
  act(event.submitter, "faults", { type: type.name, target: $("target").value.trim(), peer: type.link ? $("peer").value.trim() : "", duration: type.once ? "" : $("for").value.trim(), parameters });
}

function offerTargets() {
  const names = [...objects.machine.keys(), ...[...objects.pod.keys()].slice(0, 500).map(key => `pod/${key}`)];
  $("targets").replaceChildren(...names.map(name => make("option", "", { value: name })));
}

// ---- Events, on an axis of time and as a list

let eventsPlanned = false;
function planEvents() {
  if (eventsPlanned) return;
  eventsPlanned = true;
  setTimeout(() => { eventsPlanned = false; drawEvents(); }, 500);
}

function drawEvents() {
  const begin = now() - MINUTES_5, when = item => Date.parse(item.at) || 0;
  const events = [...objects.event.values()].sort((a, b) => when(b) - when(a));
  const faults = [...objects.fault.values()].flatMap(fault => [[fault.at, fault.type], [fault.healedAt, "healed"]]).filter(([at]) => at).map(([at, reason]) => ({ at, reason, type: "Fault" }));
  const marks = [...events.slice(0, 200), ...faults].filter(item => when(item) >= begin);
  const width = $("axis").clientWidth;
  $("axis").replaceChildren(...marks.map(item => {
    const mark = make("i", "", { class: ["Warning", "Fault"].includes(item.type) ? item.type : "Normal", title: item.reason });
    mark.style.transform = `translateX(${Math.min(width - 3, ((when(item) - begin) / MINUTES_5) * width)}px)`;
    return mark;
  }));
  $("events").replaceChildren(...events.slice(0, 40).map(item => {
    const row = make("li", "", { class: item.type === "Warning" ? "Warning" : "Normal" });
    row.append(make("time", item.at ? new Date(when(item)).toLocaleTimeString("en-GB") : ""), make("b", item.reason), make("span", `${item.about}: ${item.message}${item.count > 1 ? ` (${item.count} times)` : ""}`));
    return row;
  }));
}

// ---- the requests of a measurement that runs

const ticks = new Map();
function takeTicks(list) {
  for (const tick of list) ticks.set(`${tick.id} ${tick.at_s}`, tick);
  const newest = [...ticks.values()].at(-1);
  if (!newest) return;
  const mine = [...ticks.values()].filter(tick => tick.id === newest.id).sort((a, b) => a.at_s - b.at_s).slice(-60);
  ticks.clear();
  for (const tick of mine) ticks.set(`${tick.id} ${tick.at_s}`, tick);
  drawRequests(mine);
}

function counted(tick) {
  const pods = {}, sum = { ok: 0, failed: 0, unsent: 0, p99: 0 };
  for (const source of tick.sources) {
    for (const [pod, count] of Object.entries(source.answered_by || {})) pods[pod] = (pods[pod] || 0) + count;
    for (const [outcome, count] of Object.entries(source.outcomes || {})) sum[outcome === "ok" ? "ok" : outcome === "unsent" ? "unsent" : "failed"] += count;
    sum.p99 = Math.max(sum.p99, source.p99_s || 0);
  }
  const told = Object.values(pods).reduce((a, b) => a + b, 0);
  if (told < sum.ok) pods[""] = sum.ok - told;
  return { ...sum, pods };
}

function drawRequests(mine) {
  const all = mine.map(counted), last = all.at(-1), most = Math.max(1, ...all.map(one => one.ok + one.failed)), tick = mine.at(-1);
  $("requests").hidden = false;
  write($("requests-text"), `${tick.target}: ${last.ok} answered, ${last.failed} failed, ${last.unsent} not sent in the last second; 99 % within ${(last.p99 * 1000).toFixed(1)} ms${tick.over ? "; the measurement is over" : ""}`);
  const names = [...new Set(all.flatMap(one => Object.keys(one.pods)))].sort(), bars = [];
  const rect = (x, y, height, name) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ x, y, width: 9, height, class: name })) bar.setAttribute(key, value);
    bars.push(bar);
  };
  all.forEach((one, at) => {
    let y = 120;
    const part = (count, name) => { const height = (count / most) * 116; if (count) rect(at * 10, (y -= height), height, name); };
    names.forEach((name, number) => part(one.pods[name] || 0, `f${name ? (number % 6) + 1 : 0}`));
    part(one.failed, "failed");
  });
  $("bars").replaceChildren(...bars);
  $("requests-key").replaceChildren(...names.map((name, number) => make("span", name || "answered", { class: `f${name ? (number % 6) + 1 : 0}` })), make("span", "failed", {}));
}

// ---- the beginning

$("type").addEventListener("change", chooseType);
$("form").addEventListener("submit", submit);
$("more").addEventListener("toggle", offerTargets);
$("target").addEventListener("focus", offerTargets);
$("leave").addEventListener("click", async () => { await act($("leave"), "close", {}); location.reload(); });
$("heal-all").addEventListener("click", () => act($("heal-all"), "heal", {}));
new ResizeObserver(planLinks).observe($("picture"));
setInterval(() => { if (!document.hidden) drawEvents(); }, 2000);
listen();
