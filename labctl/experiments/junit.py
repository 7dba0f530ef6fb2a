"""A result as JUnit XML, in the form that GitHub, GitLab and Jenkins read: one test case for each hypothesis in each cell, and for each repetition that does
not count."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree

from labctl.experiments.result import Result, cell_name
from labctl.experiments.tables import verdict_line

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(result: Result) -> str:
    """Return one test suite. A hypothesis that does not hold is a failure, a repetition that does not count an error."""
    broken = [run for run in result.runs if run.broken]
    missing = [] if result.ended_at else ["the experiment was broken off"]
    counts = {
        "tests": str(len(result.verdicts) + len(broken) + len(missing)),
        "failures": str(sum(not verdict.holds for verdict in result.verdicts)),
        "errors": str(len(broken) + len(missing)),
        "skipped": "0",
        "time": f"{sum(run.took_s for run in result.runs):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "labctl experiment", **counts})
    began = datetime.fromtimestamp(result.began_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(result.name), **counts, "timestamp": began})
    for verdict in result.verdicts:
        case = _case(suite, result, f"{cell_name(verdict.cell)} {verdict.text}".strip())
        if verdict.holds:
            ElementTree.SubElement(case, "system-out").text = _clean(verdict_line(verdict))
        else:
            ElementTree.SubElement(case, "failure", {"type": "hypothesis", "message": _clean(verdict_line(verdict))})
    for run in broken:
        case = _case(suite, result, f"{cell_name(run.cell)} repetition {run.number}".strip())
        ElementTree.SubElement(case, "error", {"type": "repetition", "message": _clean(run.broken)})
    for text in missing:
        ElementTree.SubElement(_case(suite, result, "all repetitions"), "error", {"type": "experiment", "message": text})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, result: Result, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", {"classname": _clean(f"labctl.experiment.{result.name}"), "name": _clean(name)})


def _clean(text: str) -> str:
    """Return the text without the characters that XML can't hold."""
    return _NOT_XML.sub("\ufffd", text)
