// The requests of a measurement that runs, second by second.

import { $, make, write } from "./page.js";

const ticks = new Map();
export function takeTicks(list) {
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
