// Faults: what is broken, the buttons that break and heal, and the form for every type.

import { $, dirty, make, objects, page, plan, write } from "./page.js";

let types = [];

export const activeFaults = () => [...objects.fault.values()].filter(fault => !fault.over);

export const describe = fault => `${fault.type} ${fault.target}${fault.peer ? ` ↔ ${fault.peer}` : ""}${fault.phase === "Active" ? "" : ` (${fault.phase})`}`;

export async function act(button, what, body) {
  button.disabled = true;
  try {
    const answer = await fetch(`/dash/${what}`, { method: "POST", headers: { "Content-Type": "application/json", "X-Labctl-Guard": page.guard }, body: JSON.stringify(body) });
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

export function drawFaults() {
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

export function offerTypes(all) {
  if (types.length) return;  // a later picture must not undo what a person chose
  types = all;
  $("type").replaceChildren(...types.map(type => make("option", type.name)));
  chooseType();
}

export function chooseType() {
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

export function submit(event) {
  event.preventDefault();
  const type = types.find(one => one.name === $("type").value);
  const parameters = Object.fromEntries([...$("parameters").querySelectorAll("input")].filter(input => input.value).map(input => [input.name, input.value]));
  act(event.submitter, "faults", { type: type.name, target: $("target").value.trim(), peer: type.link ? $("peer").value.trim() : "", duration: type.once ? "" : $("for").value.trim(), parameters });
}

export function offerTargets() {
  const names = [...objects.machine.keys(), ...[...objects.pod.keys()].slice(0, 500).map(key => `pod/${key}`)];
  $("targets").replaceChildren(...names.map(name => make("option", "", { value: name })));
}
