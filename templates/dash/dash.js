// The live page. It draws what the master's stream tells: a picture of everything, then each change.
//
//   EventSource /dash/stream ─► objects (a Map for each kind) ─► what changed is drawn at the next frame
//   stream.js                   page.js                          machines.js, pods.js, services.js, faults.js, events.js; requests.js
//
// Nothing is asked of any other place.

import { $, drawing } from "./page.js";
import { drawEvents, planEvents } from "./events.js";
import { act, chooseType, drawFaults, offerTargets, submit } from "./faults.js";
import { drawMachines, drawSummary } from "./machines.js";
import { drawPods } from "./pods.js";
import { drawServices, planLinks } from "./services.js";
import { listen } from "./stream.js";

const everything = ["machine", "node", "pod", "service", "endpoints", "fault"];
drawing([
  [["machine", "node", "fault"], drawMachines],
  [["pod", "machine", "node"], drawPods],
  [["service", "endpoints", "pod"], drawServices],
  [["fault"], drawFaults],
  [["event", "fault"], planEvents],
  [everything, drawSummary],
  [everything, planLinks],
]);

$("type").addEventListener("change", chooseType);
$("form").addEventListener("submit", submit);
$("more").addEventListener("toggle", offerTargets);
$("target").addEventListener("focus", offerTargets);
$("leave").addEventListener("click", async () => { await act($("leave"), "close", {}); location.reload(); });
$("heal-all").addEventListener("click", () => act($("heal-all"), "heal", {}));
new ResizeObserver(planLinks).observe($("picture"));
setInterval(() => { if (!document.hidden) drawEvents(); }, 2000);
listen();
