"""Reading an experiment's file: text, matrix, types, manifests, plans. Whatever is wrong with it is said at once, each problem on one line.

text ─► YAML, bounded ─► `${...}` filled in for each cell ─► the types of schema.py ─► the plans of plan.py
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from labctl.decoding import from_values
from labctl.errors import UsageError
from labctl.experiments import documents, matrix, schema
from labctl.experiments.plan import FaultType, Plan, Planner, Problems

_AT = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_FORMS = (  # msgspec's sentences, and what a person writes instead
    (re.compile(r"Expected `int` >= (\d+)$"), r"write a whole number of at least \1"),
    (re.compile(r"Expected `int` <= (\d+)$"), r"write a whole number of at most \1"),
    (re.compile(r"Expected `int.*`, got `.*`$"), "write a whole number"),
    (re.compile(r"Expected `array` of length >= 1$"), "it is empty: write at least one"),
    (re.compile(r"Expected `array` of length <= (\d+)$"), r"write at most \1"),
    (re.compile(r"Expected `array`, got `.*`$"), "write a list: [...], or lines that begin with a dash"),
    (re.compile(r"Expected `object`, got `.*`$"), "write a map: {name: value}"),
    (re.compile(r"Expected `bool`, got `.*`$"), "write true or false"),
    (re.compile(r"Expected `str` matching regex .*"), "write lower-case letters, digits and -, at most 60"),
    (re.compile(r"Expected `str` of length <= (\d+)$"), r"write at most \1 characters"),
)


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read and is in order."""

    name: str
    description: str
    text: str
    files: Mapping[str, str]  # the manifests' paths, as written, and their texts
    digest: str  # of all that: the same digest means the same experiment
    images: tuple[str, ...]
    repetitions: int
    seed: int
    plans: tuple[Plan, ...]


class Refused(UsageError):
    """An experiment's file is not in order. `problems` has one line each; the message is the first of them."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.problems = [f"{where}: {problem}" for problem in problems]
        more = f" (and {len(problems) - 1} more: labctl experiment check {where})" if len(problems) > 1 else ""
        super().__init__(self.problems[0] + more)


def read(path: Path, faults: Mapping[str, FaultType] | None = None) -> Experiment:
    """Return the experiment in a file. Raises Refused, with every problem that was found. `faults` are the types that this labctl knows."""
    return parse(documents.text_of(path), path.parent, path.name, faults)


def parse(
    text: str, folder: Path, where: str, faults: Mapping[str, FaultType] | None = None, files: Mapping[str, str] | None = None
) -> Experiment:
    """Return the experiment that a text states. Its manifests are read from the folder, or taken from `files` where a result kept them."""
    found = documents.load(text, where)
    if len(found) != 1 or not isinstance(found[0], dict):
        raise Refused(where, ["an experiment is one map: name, manifests, steady, load, duration, timeline, hypothesis"])
    problems = Problems()
    reader = _Reader(folder, problems, dict(files or {}), bool(files))
    plans, spec = _plans(found[0], reader, problems, faults)
    if problems.lines or spec is None:
        raise Refused(where, list(problems.lines))
    digest = hashlib.sha256(json.dumps([text, sorted(reader.texts.items())]).encode()).hexdigest()
    return Experiment(
        name=spec.name,
        description=spec.description,
        text=text,
        files=reader.texts,
        digest=digest,
        images=spec.images,
        repetitions=spec.repetitions,
        seed=spec.seed,
        plans=tuple(plans),
    )


def _plans(
    tree: Mapping[str, Any], reader: _Reader, problems: Problems, faults: Mapping[str, FaultType] | None
) -> tuple[list[Plan], schema.Spec | None]:
    combinations: list[Mapping[str, Any]] = problems.tried("matrix", matrix.combinations, tree.get("matrix", {}), otherwise=[])
    names = list(tree["matrix"]) if combinations and tree.get("matrix") else []
    planner = Planner(problems, faults, names)
    used: set[str] = set()
    plans, spec = [], None
    for values in combinations:
        spec = _spec(tree, values, used, reader.room, problems)
        if spec is None:
            return [], None
        manifests = reader.objects("manifests", spec.manifests, values, used)
        of_steps = [reader.objects(f"timeline[{i}].manifests", step.manifests, values, used) for i, step in enumerate(spec.timeline)]
        plans.append(planner.plan(spec, matrix.cell(values), manifests, of_steps))
    for name in names:
        if name not in used:
            problems.add(f"matrix.{name}", f"nothing uses it: write ${{{name}}} where its value belongs")
    return plans, spec


def _spec(tree: Mapping[str, Any], values: Mapping[str, Any], used: set[str], room: matrix.Room, problems: Problems) -> schema.Spec | None:
    filled = {}
    for field, value in tree.items():
        filled[field] = (
            value if field == "matrix" else problems.tried(str(field), lambda v: matrix.fill(v, values, used, room), value, otherwise=value)
        )
    if problems.lines:
        return None
    try:
        return from_values(filled, schema.Spec)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        problems.add((match[2] or "") if match else "", _plain(match[1] if match else str(error)))
        return None


def _plain(message: str) -> str:
    """Return msgspec's sentence in the words of a file, with a field that may have been meant."""
    if match := _UNKNOWN.match(message):
        names = {
            name for struct in (schema.Spec, schema.Load, schema.Step, schema.SteadyCondition, schema.Threshold) for name in _fields(struct)
        }
        close = difflib.get_close_matches(match[1], names - {match[1]}, 1)
        hint = f"did you mean `{close[0]}`?" if close else "docs/experiments.md lists the fields"
        return f"unknown field `{match[1][:100]}`: {hint}" if match[1] not in names else f"`{match[1]}` does not belong here"
    if match := _MISSING.match(message):
        return f"`{match[1]}` is missing: write it"
    for form, words in _FORMS:
        if match := form.match(message):
            return match.expand(words)
    return message.replace("`", "'")[:300]


def _fields(struct: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(struct)]


class _Reader:
    """Reads manifests once each, from the folder only, and fills them in for a cell."""

    def __init__(self, folder: Path, problems: Problems, texts: dict[str, str], kept: bool) -> None:
        self.texts = texts
        self.room = matrix.Room()
        self._objects: dict[str, list[Mapping[str, Any]]] = {}
        self._folder = folder
        self._problems = problems
        self._kept = kept  # the texts come from a result: there is no folder to read from

    def objects(
        self, field: str, written: Sequence[str | Mapping[str, Any]], values: Mapping[str, Any], used: set[str]
    ) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for index, each in enumerate(written):
            here = f"{field}[{index}]"
            if isinstance(each, str):
                items = self._file(here, each)
                found += self._problems.tried(here, lambda read: self._filled(read, values, used), items, otherwise=[])
            elif trouble := documents.is_object(each):
                self._problems.add(here, trouble)
            else:
                found.append(each)
        return found

    def _filled(self, items: Sequence[Mapping[str, Any]], values: Mapping[str, Any], used: set[str]) -> list[Mapping[str, Any]]:
        return [matrix.fill(item, values, used, self.room, strict=False) for item in items]

    def _file(self, field: str, name: str) -> list[Mapping[str, Any]]:
        try:
            if name not in self.texts:
                if self._kept:
                    raise ValueError(f"the result did not keep {name!r}")
                self.texts[name] = documents.text_of(documents.inside(self._folder, name))
            if name not in self._objects:
                self._objects[name] = documents.manifests(self.texts[name], name)
            return self._objects[name]
        except (ValueError, UsageError) as error:
            self._problems.add(field, str(error))
            return []
