"""The recipes of docs/extending.md, each followed on a throw-away example."""

from __future__ import annotations

import importlib
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.resources import kinds
from labctl.resources.registry import builtin_registry
from labctl.resources.schema.definitions import Schema
from tests.inprocess import ApiServer

ROOT = Path(__file__).parents[1]
DEVICE_CLASS = """
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Kind

KIND = Kind("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", "deviceclass", False, GenericObject)
"""


BLOCK = re.compile(r"`([\w./-]+)`:\n\n```(python|diff)\n(.*?)```", re.S)
"""A file's path, and right after it what becomes of the file."""
PATH = re.compile(r"`((?:docs|labctl|tests)/[\w./-]+)`")
TESTS = {
    "Add a controller": ["tests/controllers/test_teams.py"],
    "Add an admission step": ["tests/admission/test_alwayspullimages.py"],
    "Add an ability of a provider": [
        "tests/providers/test_documented.py",
        "tests/providers/test_abilities.py",
        "tests/contract/test_provider.py::test_a_console_shows_what_its_machine_wrote[fake]",
    ],
    "Add a fault": ["tests/faults/test_flap.py", "tests/faults/test_documented.py"],
    "Act on another field of a pod": ["tests/agent/test_operating_system.py"],
}
"""By heading of the page: what holds when the recipe was followed."""


def section(heading: str) -> str:
    return (ROOT / "docs/extending.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]


def example(heading: str) -> str:
    """The first Python block below a heading of the page."""
    block = re.search(r"```python\n(.*?)```", section(heading), re.S)
    assert block is not None
    return block[1]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place where files are found as if they lay in labctl/resources/kinds/."""
    kinds.__path__.append(str(tmp_path))
    yield tmp_path
    kinds.__path__.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith((f"{kinds.__name__}.example_v1", f"{kinds.__name__}.resource_v1"))]:
        del sys.modules[name]


def put(folder: Path, group_version: str, name: str, text: str) -> None:
    place = folder / group_version
    place.mkdir()
    (place / "__init__.py").touch()
    (place / f"{name}.py").write_text(text)
    importlib.invalidate_caches()


async def test_a_kind_is_one_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    put(folder, "example_v1", "gadget", example("Add a kind"))
    async with ApiServer.running(tmp_path_factory.mktemp("api")) as api:
        body = {"apiVersion": "example.labctl.internal/v1", "kind": "Gadget", "metadata": {"name": "one"}, "spec": {"size": 3}}
        made = await api.kubectl("create", "-f", "-", stdin=body)
        assert made.code == 0, made.err
        table = await api.kubectl("get", "gad")
        assert table.out.split("\n")[0].split() == ["NAME", "SIZE", "AGE"] and table.out.split("\n")[1].split()[:2] == ["one", "3"]
        defaulted = await api.kubectl("get", "gadgets", "--field-selector", "spec.color=grey", "-o", "name")
        assert defaulted.out == "gadget.example.labctl.internal/one\n"
        explained = await api.kubectl("explain", "gadget.spec")
        assert "color" in explained.out and "size" in explained.out, explained.err
        too_big = await api.kubectl("patch", "gadget", "one", "--type=merge", "-p", '{"spec":{"size":101}}')
        assert "must be less than or equal to 100" in too_big.err
        unknown = await api.kubectl("create", "-f", "-", stdin={**body, "spec": {"mood": "bad"}})
        assert 'unknown field "spec.mood"' in unknown.err


def test_a_kind_of_kubernetes_brings_its_definitions_when_they_are_derived(folder: Path) -> None:
    pytest.importorskip("kubernetes_validate")
    put(folder, "resource_v1", "deviceclass", DEVICE_CLASS)
    derive_schema = runpy.run_path(str(ROOT / "tools/derive_schema.py"))
    definitions = derive_schema["derive"](derive_schema["official"]())
    schema = Schema(definitions)
    assert schema.name_of("resource.k8s.io", "v1", "DeviceClass") == "io.k8s.api.resource.v1.DeviceClass"
    assert schema.name_of("resource.k8s.io", "v1", "DeviceClassList")
    assert "selectors" in schema.type_of("resource.k8s.io", "v1", "DeviceClass").fields["spec"].fields
    derive_protobuf = runpy.run_path(str(ROOT / "tools/derive_protobuf.py"))
    derive_protobuf["roots"].__globals__["builtin_schema"] = lambda: schema
    assert derive_protobuf["roots"]()["resource.k8s.io/v1/DeviceClass"] == "k8s.io/api/resource/v1.DeviceClass"
    assert builtin_registry()["deviceclasses.resource.k8s.io"].kind == "DeviceClass"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project, removed afterwards: pytest would keep it."""
    for name in ("labctl", "provision", "templates", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path)


def changed(text: str, diff: str) -> str:
    """The text after each hunk of the diff; a hunk's old lines must stand there exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] or line for line in lines if line[0] != sign) for sign in "+-")
        assert ("\n" + text).count("\n" + old) == 1, f"docs/extending.md shows lines that are not there, or not once:\n{old}"
        text = ("\n" + text).replace("\n" + old, "\n" + new)[1:]
    return text


def follow(project: Path, heading: str) -> list[str]:
    """Applies the recipe's blocks, and touches nothing else; returns the files' paths."""
    blocks = BLOCK.findall(section(heading))
    assert len(blocks) == section(heading).count("```") // 2, "a block does not say which file it is about"
    for path, language, text in blocks:
        place = project / path
        assert place.exists() is (language == "diff"), path
        place.write_text(changed(place.read_text(), text) if language == "diff" else text)
    return [path for path, _, _ in blocks]


def succeeded(project: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=project, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("heading", TESTS)
def test_a_recipe_is_followed_and_what_it_promises_holds(project: Path, heading: str) -> None:
    touched = follow(project, heading)
    missing = [path for path in PATH.findall(section(heading)) if not (project / path).exists()]
    assert not missing, f"the recipe names files that are not there: {missing}"
    python = [path for path in touched if path.endswith(".py")]
    succeeded(project, "ruff", "check", "--no-cache", *python)
    succeeded(project, "ruff", "format", "--no-cache", "--check", *python)
    assert "skipped" not in succeeded(project, "pytest", "-p", "no:cacheprovider", *TESTS[heading])


def test_every_recipe_is_followed() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "docs/extending.md").read_text(), re.M)
    assert headings == ["Add a kind", *TESTS]
