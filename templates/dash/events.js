// Events, on an axis of time and as a list.

import { $, make, now, objects } from "./page.js";

const MINUTES_5 = 300_000;

let eventsPlanned = false;
export function planEvents() {
  if (eventsPlanned) return;
  eventsPlanned = true;
  setTimeout(() => { eventsPlanned = false; drawEvents(); }, 500);
}

export function drawEvents() {
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
