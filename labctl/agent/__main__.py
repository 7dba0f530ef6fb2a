"""The zipapp's one door: `run`, `exec`, `attach`, `logs`, `forward`, `facts`, `clean`; `helper`, `forwarder`, `dns` and `fault` for the master's network, proxy, names and faults.

Modules are imported by the subcommand that needs them: `logs` and `exec` answer as fast as Python starts.
"""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

FAILED = 125  # as container tools: the tool itself failed, not the command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent", description="labctl's node agent")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="be this machine's node agent")
    run.add_argument("--config", default="/etc/labctl/agent.json")
    for name in ("exec", "attach", "logs"):
        command = commands.add_parser(name)
        command.add_argument("--config", default="/etc/labctl/agent.json")
        command.add_argument("--pod", required=True, help="the pod's uid")
        command.add_argument("--container", required=True)
        if name != "logs":
            command.add_argument("--tty", action="store_true")
            command.add_argument("--stdin", action="store_true", help="pass standard input on (taken for granted: accepted for symmetry)")
        if name == "exec":
            command.add_argument("argv", nargs=argparse.REMAINDER)
        if name == "logs":
            _log_options(command)
    forward = commands.add_parser("forward", help="a connection to a port of a pod, on standard input and output")
    forward.add_argument("--config", default="/etc/labctl/agent.json")
    forward.add_argument("--pod", required=True, help="the pod's uid")
    forward.add_argument("port", type=int)
    commands.add_parser("facts", help="what this machine is, as JSON")
    clean = commands.add_parser("clean", help="remove all of labctl from this machine")
    clean.add_argument("--config", default="/etc/labctl/agent.json")
    clean.add_argument("--keep-images", action="store_true", help="as after a power cut: nothing runs, the disk stays")
    return parser


def _log_options(command: argparse.ArgumentParser) -> None:
    for flag in ("--previous", "--follow", "--timestamps"):
        command.add_argument(flag, action="store_true")
    command.add_argument("--tail", type=int)
    command.add_argument("--since-time", default="")
    command.add_argument("--since-seconds", type=int)
    command.add_argument("--limit-bytes", type=int)


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["helper"]:
        from .helper import main as helper

        return int(helper.main(argv[1:]) or 0)
    if argv[:1] == ["forwarder"]:
        from .forwarder import main as forwarder

        return int(forwarder.main(argv[1:]) or 0)
    if argv[:1] == ["dns"]:
        from .dns import main as dns

        return int(dns.main(argv[1:]) or 0)
    if argv[:1] == ["fault"]:
        from .faults import main as fault

        return fault.main(argv[1:])
    arguments = _parser().parse_args(argv)
    try:
        return _dispatch(arguments)
    except BrokenPipeError:
        return 0


def _dispatch(arguments: argparse.Namespace) -> int:
    from . import settings

    if arguments.command == "facts":
        import json

        from .facts import facts

        print(json.dumps(facts()))
        return 0
    if arguments.command == "run":
        from .main import run

        try:
            return run(settings.read(arguments.config))
        except settings.BadSettings as error:
            print(f"agent: {error}", file=sys.stderr)
            return 2
    if arguments.command == "clean":
        from .clean import clean

        return clean(arguments.config, arguments.keep_images)
    from .streams import stream

    return stream(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
