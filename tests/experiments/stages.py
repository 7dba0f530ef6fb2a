"""A stage without a lab, for tests of the runner: its time is a number, its faults cost what the test says, and it can fail wherever a test wants."""

from __future__ import annotations

from contextlib import contextmanager

from labctl.errors import LabctlError
from labctl.experiments.stage import Pod
from labctl.measure.records import Measurement, Request, Source
from labctl.measure.timeline import FaultFacts, Figures, Timeline


class Running:
    def __init__(self, stage, request):
        self.stage, self.request, self.began_s, self.measurement = stage, request, stage.now_s, None

    def stop(self):
        if self.measurement is None:
            self.stage.note("stop")
            self.measurement = self._measured()
            self.stage.loads.remove(self)
        return self.measurement

    def _measured(self):
        requests, period = [], 1 / self.request.rate
        for source in self.request.sources:
            for number in range(int((self.stage.now_s - self.began_s) / period)):
                at = self.began_s + number * period
                outcome = "refused" if self.stage.is_out(at) else "ok"
                requests.append(Request(source, at, outcome, at, 0.0, 0.0, at + 0.001))
        sources = tuple(Source(name, sent=len(requests)) for name in self.request.sources)
        return Measurement(
            self.request.target, self.request.rate, "http", False, self.began_s, self.stage.now_s, 1.7e9, sources, tuple(requests)
        )


class FakeStage:
    """`outages` are the seconds that each next fault costs, None for one that does not end; `fail` has errors by the name of the call: a list, one for each call, None for none."""

    def __init__(self, outages=(), fail=None, minions=2):
        self.now_s = 1000.0
        self.said = []
        self.outages = list(outages)
        self.fail = {name: list(errors) for name, errors in (fail or {}).items()}
        self.names = [f"minion-{n}" for n in range(1, minions + 1)]
        self.out, self.faults, self.active, self.states, self.loads, self.missing = [], {}, set(), set(), [], []
        self.restored = []

    def note(self, what, *more):
        self.said.append(" ".join((what, *map(str, more))))
        errors = self.fail.get(what)
        if errors and (error := errors.pop(0)):
            raise error

    def is_out(self, at_s):
        return any(begin <= at_s < end for begin, end in self.out)

    def now(self):
        return self.now_s

    def wait(self, until_s):
        self.note("wait")
        self.now_s = max(self.now_s, until_s)

    def facts(self):
        return {"versions": {"labctl": "test"}, "host": {"kernel": "none"}, "settings": {"minions": len(self.names)}}

    def load_average(self):
        return 0.5

    def refuse(self, faults):
        self.note("refuse")
        return [f"{fault.type} can't be done here" for fault in faults if fault.type == "kill-container"]

    def deploy(self, manifests):
        self.note("deploy", len(manifests))

    def unmet(self, condition):
        self.note("unmet")
        return self.missing[0] if self.missing else ""

    def pods(self, what):
        name = what.rpartition("/")[2]
        return [Pod(namespace="default", name=f"{name}-{node}", node=node, ready=True) for node in self.names]

    def minions(self):
        return self.names

    def load(self, request):
        self.note("load", *request.sources)
        self.loads.append(Running(self, request))
        return self.loads[-1]

    def inject(self, fault):
        self.note("inject", fault.type, fault.target)
        cost = self.outages.pop(0) if self.outages else 0.1
        self.faults[fault.name] = (fault, self.now_s, cost)
        self.active.add(fault.name)
        self.out.append((self.now_s, self.now_s + cost if cost is not None else 1e12))
        return [f"{fault.target} was broken"]

    def act(self, action):
        self.note("act", action.type, action.target)
        self.faults[action.name] = (action, self.now_s, 0.0)
        return [f"{action.type} was done"]

    def timelines(self, names, measurement):
        self.note("timelines")
        found = []
        for name in names:
            fault, at_s, cost = self.faults[name]
            facts = FaultFacts(name=name, type=fault.type, target=fault.target, injected_s=at_s)
            recovery_s = None if cost is None else max(0.0, cost - 0.01)
            found.append(Timeline(fault=facts, figures=Figures(reaction_s=0.01, outage_s=cost, recovery_s=recovery_s, requests=1)))
        return found

    def heal(self):
        self.note("heal")
        self.active.clear()

    def save(self, name):
        self.note("save", name)
        self.states.add(name)

    def saved(self, name):
        return name in self.states

    def restore(self, name):
        self.note("restore", name)
        if name not in self.states:
            raise LabctlError(f"no state {name}")
        self.restored.append(name)
        self.active.clear()

    def forget(self, name):
        self.states.discard(name)


class FakeStages:
    def __init__(self, stage, refused=""):
        self.stage, self.refused, self.opened, self.closed = stage, refused, [], 0

    def refuse(self, settings, steps=()):
        return self.refused

    def open(self, settings):
        self.opened.append(dict(settings))
        return self.stage

    def close(self, stage):
        self.closed += 1


class Progress:
    def __init__(self):
        self.lines = []

    @contextmanager
    def __call__(self, name):
        self.lines.append(name)
        yield lambda text: self.lines.append(f"{name}: {text}")
