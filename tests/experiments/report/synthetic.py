"""Makes results of experiments that nobody played, with figures and requests that look like real ones, and some that nobody should send us."""

from __future__ import annotations

from random import Random

import msgspec

from labctl.experiments.result import Cell, Result, Run, Verdict
from labctl.journal import came_and_went
from labctl.measure.records import Measurement, Request, Source
from labctl.measure.timeline import FaultFacts, Figures, Mark, Timeline

BEGAN_S = 1_000.0
FILE = """# What does the death of a machine cost a Service with two pods?
name: node-death
hypothesis: [median of outage < 0.5 s]
"""

CELLS: tuple[Cell, ...] = (
    {"replicas": "2", "timing": "lab"},
    {"replicas": "2", "timing": "kubernetes"},
    {"replicas": "3", "timing": "lab"},
)
HOSTILE = "</svg></style></title><script>window.hit=1</script><img src=http://192.0.2.1/x onerror=window.hit=1>$\\frac{1}{\"'&{{7*7}}\u202e"


def node_death(*, runs: int = 5, cells: tuple[Cell, ...] = ({},), seed: int = 1, rate: float = 200.0, pods: tuple[str, ...] = ()) -> Result:
    """Returns an experiment in which a minion loses its power, `runs` times in each cell; the outage grows with the cell's number."""
    rng = Random(seed)
    made = tuple(
        node_death_run(cell, number, rng, 0.24 + 0.3 * at, rate=rate, pods=pods)
        for at, cell in enumerate(cells)
        for number in range(1, runs + 1)
    )
    result = Result(
        name="node-death",
        description="What does the death of a machine cost a Service with two pods?",
        experiment=FILE,
        files={"web.yaml": "kind: Deployment\n"},
        facts={
            "labctl": "0.1.0",
            "kubernetes": "1.37",
            "host": {"kernel": "6.1.0", "cpus": 2},
            "settings": {"minions": 3, "network.mode": "route"},
            "seed": seed,
        },
        repetitions=runs,
        cells=cells,
        runs=made,
        began_at=1_795_000_000.0,
        ended_at=1_795_000_180.0,
    )
    verdicts = tuple(_verdict(result, cell) for cell in cells)
    return msgspec.structs.replace(result, verdicts=verdicts)


def hostile() -> Result:
    """Returns a result in which every text is hostile: markup, formulas, templates, control characters, and no space to break at."""
    text = HOSTILE + "W" * 200
    result = node_death(runs=2, cells=({text[:200]: text},), pods=(text + "a", text + "b", "_" + text))
    runs = []
    for run in result.runs:
        assert run.measurement
        faults = [msgspec.structs.replace(one.fault, name=text, type=text, peer=text) for one in run.timelines]
        marks = tuple(msgspec.structs.replace(mark, text=mark.text + text + "\x00\x1b[31m", by=text) for mark in run.timelines[0].marks)
        timelines = tuple(msgspec.structs.replace(one, fault=fault, marks=marks) for one, fault in zip(run.timelines, faults, strict=True))
        measurement = msgspec.structs.replace(run.measurement, target=text)
        runs.append(msgspec.structs.replace(run, timelines=timelines, done=(text,), measurement=measurement))
    broken = msgspec.structs.replace(runs[0], number=3, broken=text)
    verdicts = tuple(msgspec.structs.replace(verdict, text=text, unit=text[:20], why=text) for verdict in result.verdicts)
    return msgspec.structs.replace(
        result,
        name=text[:80],
        description=text,
        experiment=text,
        files={text: text},
        facts={text: {text: [text, text]}},
        runs=(*runs, broken),
        verdicts=verdicts,
        repetitions=4,
    )


def node_death_run(cell: Cell, number: int, rng: Random, outage_s: float, *, rate: float = 200.0, pods: tuple[str, ...] = ()) -> Run:
    """Returns one repetition: ten seconds of load, the power goes after four, comes back after eight."""
    first, lost, new = pods or ("web-6f9c-x2vqp", "web-6f9c-7hkld", "web-6f9c-m4t8z")
    injected = BEGAN_S + 4.0
    outage = outage_s * rng.uniform(0.8, 1.3)
    reaction, repair = outage * 0.35, outage * 0.35 + 1.1 * rng.uniform(0.9, 1.2)
    fault = FaultFacts(name=f"power-off-{number}", type="power-off", target="minion-2", injected_s=injected, healed_s=injected + 4)
    recovered = outage * 0.9
    web, gone, came = "services/default/web", f"10.246.1.2 {lost}", f"10.246.2.9 {new}"
    marks = (
        Mark(at_s=0.0, what="injected", where="minion-2", by="power-off"),
        Mark(
            at_s=reaction,
            what="known",
            where="minion-2",
            by="provider",
            about="machine/minion-2",
            text="off (not intended): its init is gone",
        ),
        Mark(at_s=reaction + 0.01, what="endpoint-removed", by="endpointslice-controller", about=web, text=came_and_went((), (gone,))),
        Mark(at_s=recovered - 0.02, what="rules", where="minion-1", by="proxy", about=web, text=f"sends nothing to {gone}"),
        Mark(at_s=recovered, what="rules", where="minion-3", by="proxy", about=web, text=f"sends nothing to {gone}"),
        Mark(at_s=reaction + 0.015, what="evicted", where=f"default/{lost}", about=f"pods/default/{lost}", text="killed with its node"),
        Mark(at_s=reaction + 0.02, what="decided", where=f"default/{new}", about=f"pods/default/{new}", text="1 of 2 replicas is missing"),
        Mark(
            at_s=reaction + 0.03,
            what="scheduled",
            where="minion-3",
            by="default-scheduler",
            about=f"pods/default/{new}",
            text="placed on minion-3",
        ),
        Mark(
            at_s=repair - 0.4,
            what="image",
            where="minion-3",
            by="agent",
            about=f"pods/default/{new}",
            text="image there",
            uncertainty_s=0.01,
        ),
        Mark(
            at_s=repair - 0.2, what="started", where="minion-3", by="agent", about=f"pods/default/{new}", text="started", uncertainty_s=0.01
        ),
        Mark(at_s=repair, what="ready", where="minion-3", by="agent", about=f"pods/default/{new}", text="ready on minion-3"),
        Mark(at_s=repair + 0.03, what="in-vip", where="minion-1", by="proxy", about=web, text=f"sends to {came}"),
        Mark(at_s=repair + 0.04, what="in-vip", where="minion-3", by="proxy", about=web, text=f"sends to {came}"),
        Mark(at_s=outage, what="first-answer", where="minion-1", by=first),
        Mark(at_s=4.0, what="healed", where="minion-2"),
    )
    measurement = _requests(rng, rate, injected, outage, repair, (first, lost, new))
    failed = sum(request.outcome != "ok" for request in measurement.requests)
    figures = Figures(
        reaction_s=reaction,
        repair_s=repair - reaction,
        recovery_s=outage - reaction,
        outage_s=outage,
        requests=len(measurement.requests),
        failed=failed,
    )
    timeline = Timeline(fault=fault, marks=tuple(sorted(marks, key=lambda mark: mark.at_s)), figures=figures)
    return Run(
        cell=cell,
        number=number,
        seed=number,
        began_at=1_795_000_000.0 + 30 * number,
        took_s=21.5,
        timelines=(timeline,),
        figures={
            "reaction": reaction,
            "repair": repair - reaction,
            "recovery": outage - reaction,
            "outage": outage,
            "failed": float(failed),
        },
        done=("minion-2: its power was cut",),
        measurement=measurement,
    )


def _requests(rng: Random, rate: float, injected: float, outage: float, repair: float, pods: tuple[str, str, str]) -> Measurement:
    first, lost, new = pods
    made = []
    for source in ("minion-1", "minion-3"):
        for number in range(int(10 * rate)):
            due = BEGAN_S + number / rate + rng.uniform(0, 0.2 / rate)
            after = due - injected
            pod = rng.choice(
                (first, lost) if after < 0 else (first, new) if after > repair else (first, lost) if after < outage else (first,)
            )
            took = rng.lognormvariate(-6.2, 0.35)
            if pod == lost and after >= 0:
                failed = rng.random() < 0.6
                took = 1.0 if failed else min(1.0, outage - after + took)
                outcome = "timeout" if failed else "ok"
                made.append(Request(source, due, outcome, due, 0.0, 0.0, due + took, 0 if failed else 200, "" if failed else first))
                continue
            made.append(Request(source, due, "ok", due, due + took / 3, due + took * 0.9, due + took, 200, pod))
    made.sort(key=lambda request: request.intended_s)
    sources = tuple(Source(name, 0.0, 0.0002, True, 0.05, int(10 * rate), 0) for name in ("minion-1", "minion-3"))
    return Measurement("http://10.247.0.10:80/", rate, "http", False, BEGAN_S, BEGAN_S + 10, 1_795_000_000.0, sources, tuple(made))


def _verdict(result: Result, cell: Cell) -> Verdict:
    values = sorted(result.values(cell, "outage"))
    median = values[len(values) // 2]
    return Verdict(
        text="median of outage < 0.5 s",
        figure="outage",
        statistic="median",
        operator="<",
        bound=0.5,
        unit="s",
        measured=median,
        holds=median < 0.5,
        cell=cell,
    )
