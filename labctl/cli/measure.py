"""The command `measure`: it sends requests at a fixed rate and says what became of each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labctl.cli.complete import minions
from labctl.cli.lifecycle import become_root, with_master
from labctl.cli.output import output_option, print_json, print_table
from labctl.cli.quantities import Duration, Namespace, Rate
from labctl.cli.words import echo, echo_line
from labctl.errors import LabctlError, UsageError
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.lab.measuring import Running
    from labctl.measure.live import Tick
    from labctl.measure.records import Measurement
    from labctl.measure.summary import Latency, Summary

_EPILOG = """\b
Examples:
  labctl measure web
  labctl measure web:http --rate 500/s --for 30s --save run.jsonl.gz
  labctl measure shop/web --from minion-1,pod/default/client --keepalive
  labctl measure http://10.245.1.11:30080/healthz --from host
  labctl measure tcp://10.247.0.20:5432 --for 5s
  labctl measure web --for 10s --max-failed 0 --max-outage 300ms
"""


@click.command(epilog=_EPILOG)
@click.argument("target", metavar="SERVICE|URL")
@click.option("-n", "--namespace", type=Namespace(), default="default", help="the Service's namespace (default: default)")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="SOURCE",
    shell_complete=minions,
    help="minion-1, pod/NAMESPACE/NAME or host; default: each minion",
)
@click.option("--rate", type=Rate(), default="200/s", show_default=True, help="requests from each source")
@click.option("--for", "seconds", type=Duration(), help="how long, such as 10s; without it until Ctrl-C")
@click.option("--keepalive", is_flag=True, help="keep connections; without it each request has a new one")
@click.option("--http", "protocol", flag_value="http", help="speak HTTP, whatever the port's name says")
@click.option("--https", "protocol", flag_value="https", help="speak HTTPS")
@click.option("--tcp", "protocol", flag_value="tcp", help="connect only")
@click.option("--udp", "protocol", flag_value="udp", help="send a datagram and wait for one")
@click.option("--path", default="/", show_default=True, help="what is asked for by HTTP")
@click.option(
    "--timeout", "deadline_s", type=Duration(), default="5s", show_default=True, help="a request without a whole answer has failed then"
)
@click.option("-k", "--insecure", is_flag=True, help="take any certificate")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="keep each request here, as JSON lines; with .gz compressed")
@click.option("--max-failed", type=click.IntRange(0), help="exit status 1 if more requests failed or were not sent")
@click.option("--max-outage", type=Duration(), help="exit status 1 if a source had no answer for longer")
@output_option
def measure(
    output: str,
    sources: tuple[str, ...],
    seconds: float | None,
    save: Path | None,
    max_failed: int | None,
    max_outage: float | None,
    **asked,
) -> None:
    """Send requests to a Service, or to an address of the lab, at a fixed rate, and count what became of each.

    Requests begin when they are due, whether or not earlier ones were answered, and latency counts from when a request was due: a stall is seen as its users would
    feel it. docs/measuring.md explains the figures.
    """
    from labctl.measure.summary import summaries

    lab = with_master(Lab())
    named = [name for each in sources for name in each.split(",") if name]
    if "host" in named:
        become_root(lab)
    if save and not save.parent.is_dir():
        raise UsageError(f"--save {save}: there is no folder {save.parent}")
    with _start(lab, named, seconds, **asked) as running:
        measurement = _show(running, quiet=output == "json")
    result = summaries(measurement)
    if output == "json":
        _print_json(measurement, result)
    else:
        _print(measurement, result)
    _save(lab, measurement, save)  # after the table: a full disk does not hide it
    sys.exit(_verdict(result, measurement, max_failed, max_outage))


def _save(lab: Lab, measurement: Measurement, path: Path | None) -> None:
    """Keeps the requests for `labctl timeline`, and at `path`. Without room for the first the second is still tried."""
    from labctl.lab.privilege import return_ownership
    from labctl.lab.timelines import keep_measurement
    from labctl.measure import records

    try:
        keep_measurement(lab, measurement)
    except LabctlError as error:
        echo(f"labctl: these requests are not kept for labctl timeline: {error}", err=True)
    if path:
        records.write(measurement, path)
    return_ownership(lab, *([path] if path else []))


def _start(lab: Lab, sources: list[str], seconds: float | None, **asked) -> Running:
    from labctl.lab.measuring import Asked, Measuring

    what = Asked(
        target=asked["target"],
        namespace=asked["namespace"],
        protocol=asked["protocol"] or "",
        path=asked["path"],
        keepalive=asked["keepalive"],
    )
    return Measuring(lab).start(
        what, rate=asked["rate"], sources=sources, seconds=seconds, deadline_s=asked["deadline_s"], unchecked=asked["insecure"]
    )


def _show(running: Running, *, quiet: bool) -> Measurement:
    """Prints a line each second, until it ends or Ctrl-C is pressed; a second Ctrl-C ends the wait for requests in flight and for silent sources."""
    names = ", ".join(source.plan.name for source in running.sources)
    if not quiet:
        echo(f"{running.target.text} from {names}", err=True)
    try:
        for number, tick in enumerate(running.ticks(), 1):
            if not quiet and not tick.over:
                _print_tick(number, tick)
    except KeyboardInterrupt:
        echo("  the last requests are waited for; Ctrl-C again to leave them out", err=True)
    try:
        return running.stop()
    except KeyboardInterrupt:
        running.hurry()
        return running.stop()


def _print_tick(number: int, tick: Tick) -> None:
    parts = []
    for source in tick.sources:
        bad = "".join(f" {count} {outcome}" for outcome, count in sorted(source.outcomes.items()) if outcome != "ok")
        p99 = f" p99 {_ms(source.p99_s)}" if source.p99_s is not None else ""
        silent = f" silent for {source.silent_s:.0f} s" if source.silent_s else ""
        parts.append(f"{source.name} {source.ok} ok{bad}{p99}{silent}")
    echo(f"{number:4d} s  {'   '.join(parts)}", err=True)


def _print(measurement: Measurement, result: list[Summary]) -> None:
    rows = []
    for each in result:
        failed = ", ".join(f"{count} {outcome}" for outcome, count in each.failed.items()) or "0"
        rows.append(
            (
                each.source,
                each.sent,
                each.ok,
                failed,
                each.unsent,
                _latency(each.from_intended),
                _latency(each.from_started),
                _ms(each.longest_gap_s),
            )
        )
    print_table(("SOURCE", "SENT", "OK", "FAILED", "UNSENT", "DUE p50/p99/max", "BEGUN p50/p99/max", "LONGEST GAP"), rows)
    pods = sorted({pod for each in result for pod in each.answered_by})
    if pods:
        echo()
        print_table(
            ("ANSWERED BY", *(each.source for each in result)), [(pod, *(each.answered_by.get(pod, 0) for each in result)) for pod in pods]
        )
    for source in measurement.sources:
        if source.trouble:
            echo_line(f"{source.name}: {source.trouble}", err=True)
        if source.clock_uncertainty_s:
            echo(f"{source.name}: its clock was compared to within {_ms(source.clock_uncertainty_s)}", err=True)


def _print_json(measurement: Measurement, result: list[Summary]) -> None:
    import msgspec

    head = msgspec.to_builtins(msgspec.structs.replace(measurement, requests=()))
    del head["requests"]
    print_json({**head, "summaries": msgspec.to_builtins(result)})


def _verdict(result: list[Summary], measurement: Measurement, max_failed: int | None, max_outage: float | None) -> int:
    """Returns the exit status, and says what was exceeded."""
    failed = sum(each.failures + each.unsent for each in result)
    exceeded = []
    if max_failed is not None and failed > max_failed:
        exceeded.append(f"{failed} requests failed or were not sent, more than {max_failed}")
    for each in result if max_outage is not None else ():
        if max_outage is not None and each.longest_gap_s > max_outage:
            exceeded.append(f"{each.source} had no answer for {_ms(each.longest_gap_s)}, longer than {_ms(max_outage)}")
    if not measurement.requests:
        raise LabctlError("no request was sent")
    for line in exceeded:
        echo_line(f"labctl: {line}", err=True)
    return 1 if exceeded else 0


def _latency(latency: Latency | None) -> str:
    return "/".join(_ms(value) for value in (latency.p50_s, latency.p99_s, latency.max_s)) if latency else "-"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f}s" if seconds >= 1 else f"{seconds * 1000:.1f}ms" if seconds >= 0.001 else f"{seconds * 1e6:.0f}µs"
