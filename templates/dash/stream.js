// What the master tells: a picture of everything, then each change.

import { $, changedPods, dirty, objects, page, plan, write } from "./page.js";
import { offerTypes } from "./faults.js";
import { takeTicks } from "./requests.js";
import { takeFlow } from "./services.js";

export function listen() {
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
  for (const key of objects.pod.keys()) changedPods.add(key);  // those that are gone meanwhile are in no change
  for (const kind of Object.values(objects)) kind.clear();
  page.guard = picture.guard;
  page.clockAhead = picture.now * 1000 - Date.now();
  write($("lab"), picture.lab);
  document.title = `labctl: ${picture.lab}`;
  offerTypes(picture.types);
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
  if (page.drawn) announce(item, before);
  dirty.add(item.kind);
}

let heard = [];
function announce(item, before) {
  if (item.kind === "machine" && before && item.power !== before.power) heard.push(`${item.key} is ${item.power || "gone"}`);
  if (item.kind === "fault" && (!before || item.phase !== before.phase)) heard.push(`${item.type || ""} ${item.target || ""}: ${item.phase || "forgotten"}`);
  if (heard.length === 1) setTimeout(() => { write($("announce"), heard.slice(-6).join("; ")); heard = []; }, 800);
}
