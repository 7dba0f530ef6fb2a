"""What is known without a lab of the faults that machines of a provider can't have. Experiments are checked by it before anything is made.

What depends on this host's kernel, on a machine or on a pod, the master says as soon as there is one (`/labctl/v1/faults/check`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labctl.experiments import selectors
from labctl.providers.factory import PROVIDERS, provider_class
from labctl.providers.protocol import LinkRules, Links, PowerControl, Snapshots
from labctl.resources.faulttypes import TYPES
from labctl.resources.kinds.labctl_internal_v1 import fault as kind_fault

if TYPE_CHECKING:
    from labctl.experiments.steps import PlannedStep
    from labctl.lab.lab import Lab

POWER = ("power-off", "reset", "pause")
SHARED: Mapping[str, Mapping[str, str]] = {
    "namespace": {
        "fill-disk": "a namespace machine's files lie on its host's disk",
        "skew-clock": "a namespace machine has its host's clock",
    }
}
"""What machines of a provider share with their host, so that it can't be broken for them alone."""


def possible_providers(lab: Lab, settings: Mapping[str, object]) -> Sequence[str]:
    """Return the providers that the machines of an experiment with these settings may have: several while `auto` has not chosen yet."""
    kept = lab.record["kept"].get("provider") if lab.exists else ""
    wanted = str(settings.get("provider") or kept or lab.settings["provider"] or "auto")
    if wanted != "auto":
        return (wanted,)
    return ("ssh",) if lab.settings["machines"] else tuple(name for name in PROVIDERS if name != "ssh")


def why_no_experiment(providers: Sequence[str], steps: Sequence[PlannedStep]) -> str:
    """Return why none of these providers can have the experiment's repetitions and faults; empty if one may."""
    whys = [_why_not(name, steps) for name in providers]
    return whys[0] if whys and all(whys) else ""


def _why_not(provider: str, steps: Sequence[PlannedStep]) -> str:
    whys = [
        f"{step.field} ({step.name}): {why}"
        for step in steps
        if step.fault and (why := why_no_object(step) or why_no_fault(provider, step))
    ]
    if whys:
        return "; ".join(whys)
    kind = provider_class(provider)
    if kind is not None and not isinstance(kind.__new__(kind), Snapshots):
        return f"provider {provider} has no snapshots, and each repetition begins from one: take provider namespace or vagrant"
    return ""


def why_no_object(step: PlannedStep) -> str:
    """Return why no Fault can be written for this step: its form of target, a parameter, a unit; empty if one can."""
    spec = {"type": step.fault, "target": _for_instance(step.target), "peer": _for_instance(step.peer), "direction": step.direction}
    given = {name: value for name, value in spec.items() if value}
    errors = kind_fault.validate({"spec": {**given, "duration": step.duration, "parameters": dict(step.parameters)}}, None)
    return "; ".join(f"{error.field.removeprefix('spec.')}: {error.message}" for error in errors)


def _for_instance(text: str) -> str:
    """Return a target of the form that a text means: a selector finds a pod, or a minion."""
    found = selectors.target(text) if text else ""
    if isinstance(found, str):
        return found
    return "chosen-minion" if found.minion else "pod/default/chosen"


def why_no_fault(provider: str, step: PlannedStep) -> str:
    """Return why machines of this provider can never have this fault; empty if they may."""
    if why := SHARED.get(provider, {}).get(step.fault):
        return f"{why}: {step.fault} needs a virtual machine"
    kind = provider_class(provider)
    if kind is None or step.fault not in TYPES:
        return ""
    machine_maker = kind.__new__(kind)  # it is only asked what it can do
    if step.fault in POWER and not isinstance(machine_maker, PowerControl):
        return f"provider {provider} can't {step.fault} a machine"
    whole = step.fault == "cut" and not step.peer and step.direction in ("", "both")
    if TYPES[step.fault].link and not isinstance(machine_maker, Links if whole else LinkRules):
        return f"provider {provider} can't break a machine's link"
    return ""
