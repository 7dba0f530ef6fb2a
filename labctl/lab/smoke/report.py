"""The results of the checks: as JUnit XML, in the form that GitHub, GitLab and Jenkins read, and as plain data for JSON."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import msgspec

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Result(msgspec.Struct, frozen=True):
    """One check: its state (passed, failed, skipped), how long it took, and a sentence about what was seen or what went wrong."""

    name: str
    state: str
    took_s: float = 0.0
    text: str = ""


class Report(msgspec.Struct, frozen=True):
    """The results of all checks, in the order in which they were made. `facts` are labctl's version, the provider, the lab and the host."""

    results: tuple[Result, ...]
    took_s: float
    started: str  # RFC 3339
    facts: dict[str, str] = {}
    artifacts: str = ""  # the folder with logs and objects that was written after a failure

    @property
    def passed(self) -> bool:
        return all(result.state == PASSED for result in self.results)

    def count(self, state: str) -> int:
        return sum(result.state == state for result in self.results)


def as_data(report: Report) -> dict[str, Any]:
    return {"passed": report.passed, **msgspec.to_builtins(report)}


def as_junit(report: Report) -> str:
    """Return one testsuite. A failed check has a `failure` element, one that did not run has `skipped`."""
    counts = {
        "tests": str(len(report.results)),
        "failures": str(report.count(FAILED)),
        "errors": "0",
        "skipped": str(report.count(SKIPPED)),
        "time": f"{report.took_s:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "labctl smoke", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "labctl smoke", **counts, "timestamp": report.started.removesuffix("Z")})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in report.facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for result in report.results:
        _case(suite, result)
    if report.artifacts:
        ElementTree.SubElement(suite, "system-out").text = _clean(f"artifacts: {report.artifacts}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, result: Result) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": "labctl.smoke", "name": result.name, "time": f"{result.took_s:.3f}"})
    text = _clean(result.text)
    if result.state == FAILED:
        failure = ElementTree.SubElement(case, "failure", {"type": "failure", "message": text.partition("\n")[0][:500]})
        failure.text = text
    elif result.state == SKIPPED:
        ElementTree.SubElement(case, "skipped", {"message": text})
    elif text:
        ElementTree.SubElement(case, "system-out").text = text


def _clean(text: str) -> str:
    """Remove the characters that XML can't hold, such as a terminal's escapes in a program's output."""
    return _NOT_XML.sub("\ufffd", text)
