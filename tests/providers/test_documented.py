"""docs/providers.md says what each provider can and can't do: its table is checked against the providers' own code."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from labctl.providers.factory import PROVIDERS
from labctl.providers.namespace.provider import NamespaceProvider
from labctl.providers.protocol import Provider
from labctl.providers.ssh.provider import SshProvider
from labctl.providers.vagrant.provider import VagrantProvider
from tests.providers.test_abilities import ALL

CLASSES = {"namespace": NamespaceProvider, "vagrant": VagrantProvider, "ssh": SshProvider}
TEXT = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()


def rows():
    """{first cell: {provider: cell}} of the document's table."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
    names = [name.strip("`") for name in lines[0][1:]]
    return {line[0]: dict(zip(names, line[1:], strict=True)) for line in lines[2:]}


def methods(protocol):
    return [name for name, value in vars(protocol).items() if not name.startswith("_") and inspect.isfunction(value)]


def capabilities():
    """Rows whose first cell is methods in code type, with the methods; `up`, `halt`, `destroy` among them."""
    return {row: found for row in rows() if re.fullmatch(r"(`\w+`(, )?)+", row) and (found := re.findall(r"`(\w+)`", row))}


def test_every_provider_has_its_column():
    assert list(next(iter(rows().values()))) == list(PROVIDERS) == list(CLASSES)


def test_every_capability_has_its_row():
    described = {name for names in capabilities().values() for name in names}
    for protocol in ALL:
        assert set(methods(protocol)) <= described, f"{protocol.__name__} is not described"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("row", capabilities())
def test_the_table_says_what_the_code_can(row, provider):
    has = {name: hasattr(CLASSES[provider], name) for name in capabilities()[row]}
    assert rows()[row][provider] == {(True,): "yes", (False,): "no"}[tuple(sorted(set(has.values())))], has


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_is_a_whole_provider(provider):
    assert not [name for name in methods(Provider) if not hasattr(CLASSES[provider], name)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_uplinks_are_the_codes(provider):
    assert set(rows()["uplink"][provider].split(", ")) == set(uplinks(CLASSES[provider]))


def uplinks(provider):
    """The kinds of Uplink that `uplink` makes."""
    for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(provider.uplink)))):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Uplink":
            keywords = {keyword.arg for keyword in call.keywords}
            if "reverse_tunnel" in keywords:
                yield "reverse tunnel"
            elif len(call.args) > 4 or "network_namespace" in keywords:
                yield "listens in the lab's network namespace"
            else:
                yield "listens on the host"


def test_auto_tries_them_in_the_order_that_is_told():
    (told,) = re.findall(r"`--provider auto` tries ([^.]*?), by doing", TEXT)
    assert tuple(re.findall(r"`(\w+)`", told)) == tuple(name for name in PROVIDERS if name != "ssh")
