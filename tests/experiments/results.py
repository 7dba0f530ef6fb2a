"""Results for tests, made as the runner makes them."""

from labctl.experiments.result import Result, Run
from labctl.measure.records import Measurement, Request, Source
from labctl.measure.timeline import FaultFacts, Figures, Mark, Timeline


def measurement(outage_s: float = 0.1, rate: float = 100.0, seconds: float = 2.0, injected_s: float = 100.5) -> Measurement:
    """Requests from the host, of which those during an outage are refused."""
    requests = []
    for number in range(int(rate * seconds)):
        intended = 100.0 + number / rate
        failed = injected_s <= intended < injected_s + outage_s
        ended = intended + 0.002
        requests.append(
            Request(
                "host",
                intended,
                "refused" if failed else "ok",
                intended,
                0.0 if failed else intended + 0.001,
                0.0,
                ended,
                0 if failed else 200,
            )
        )
    source = Source("host", sent=len(requests))
    return Measurement("http://10.247.0.10/", rate, "http", False, 100.0, 100.0 + seconds, 1.7e9, (source,), tuple(requests))


def run(number: int = 1, cell=None, outage_s: float | None = 0.1, broken: str = "", requests: bool = True) -> Run:
    figures = {
        "outage": outage_s,
        "reaction": 0.02,
        "recovery": None if outage_s is None else outage_s - 0.02,
        "failed": 10.0,
        "requests": 200.0,
    }
    fault = FaultFacts(name="power-off-1", type="power-off", target="minion-1", injected_s=100.5, healed_s=103.0)
    marks = (Mark(at_s=0.0, what="injected", where="minion-1"), Mark(at_s=0.02, what="known", by="provider"))
    return Run(
        cell=cell or {},
        number=number,
        seed=number,
        began_at=1.7e9 + 10 * number,
        took_s=5.0,
        timelines=(Timeline(fault=fault, marks=marks, figures=Figures(outage_s=outage_s)),),
        figures={} if broken else figures,
        broken=broken,
        done=("minion-1 was powered off",),
        measurement=measurement(outage_s or 0.0) if requests and not broken else None,
    )


def result(outages=(0.1, 0.2, 0.3), cells=({},), name: str = "node-death", **more) -> Result:
    runs = tuple(run(number, cell, outage) for cell in cells for number, outage in enumerate(outages, 1))
    values = {"experiment": f"name: {name}\n", "digest": "abc", "repetitions": len(outages), "began_at": 1.7e9, "ended_at": 1.7e9 + 60}
    return Result(name=name, cells=tuple(cells), runs=runs, **{**values, **more})
