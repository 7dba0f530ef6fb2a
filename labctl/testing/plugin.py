"""The pytest plug-in `labctl`: a Kubernetes API for each test, in this process, and labs of real machines.

    def test_my_operator(labctl_api):
        labctl_api.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
        labctl_api.power_off("minion-1")

While a test uses `labctl_api`, KUBECONFIG leads every client to it. pytest loads this file for every test run, so it imports nothing of labctl before a
test asks for it.

Settings in pytest.ini or pyproject.toml: `labctl_nodes` (hollow nodes of the API that tests share, 2), `labctl_minions` (machines of `labctl_lab`, 2),
`labctl_provider` (auto), `labctl_snapshot` (a saved snapshot that the machines begin from). `@pytest.mark.labctl(fresh=True, nodes=3)` gives a test a
whole API of its own, with an empty store.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labctl.lab import Lab
    from labctl.testing.api import Api
    from labctl.testing.cluster import Cluster

_CLEAN = "pytest-clean"  # the snapshot that each test's lab begins from


class _Shared:
    """The lab that tests share, and whether one has used it already."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.used = lab, False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("labctl_nodes", "hollow nodes of labctl_api", default="2")
    parser.addini("labctl_minions", "machines of labctl_lab", default="2")
    parser.addini("labctl_provider", "what makes the machines of labctl_lab", default="auto")
    parser.addini("labctl_snapshot", "a snapshot that the machines of labctl_lab begin from", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "labctl(fresh=False, nodes=None): a Kubernetes API of the test's own, with this many hollow nodes")


def _number(config: pytest.Config, name: str) -> int:
    said = config.getini(name)
    try:
        number = int(said)
    except ValueError:
        number = -1
    if number < 0:
        raise pytest.UsageError(f"{name} = {said}: write a number of machines, e.g. {name} = 2")
    return number


@pytest.fixture(scope="session")
def labctl_cluster(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The control plane that tests share."""
    from labctl.testing.cluster import Cluster

    with Cluster(tmp_path_factory.mktemp("labctl"), nodes=_number(pytestconfig, "labctl_nodes")) as cluster:
        yield cluster


@pytest.fixture
def labctl_api(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A Kubernetes API with a namespace of the test's own, or, with the marker `labctl(fresh=True)`, a whole one of its own."""
    from labctl.testing.api import Api, namespace_name

    marker = request.node.get_closest_marker("labctl")
    asked: dict[str, Any] = dict(marker.kwargs) if marker else {}
    if unknown := sorted(asked.keys() - {"fresh", "nodes"}):
        raise pytest.UsageError(f"the marker labctl knows no {unknown[0]!r}: it takes fresh and nodes")
    own = _own_cluster(tmp_path, asked, request.config) if asked.get("fresh") or "nodes" in asked else None
    cluster = own or request.getfixturevalue("labctl_cluster")
    namespace = namespace_name(request.node.name)
    client = cluster.master.client
    try:
        cluster.call(client.create("namespaces", {"metadata": {"name": namespace}}))
        folder = tmp_path / "labctl"
        folder.mkdir(exist_ok=True)
        api = Api(cluster, folder, namespace)
        _lead_clients_to(api.kubeconfig, monkeypatch)
        yield api
    finally:
        if own is not None:
            own.stop()
        else:
            cluster.heal()
            cluster.call(client.delete("namespaces", namespace))


def _lead_clients_to(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets KUBECONFIG. The Python clients that are imported already read it at their import, so they are told, too."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    for library in ("kubernetes", "kubernetes_asyncio"):
        loaded = sys.modules.get(f"{library}.config.kube_config")
        if loaded is not None:
            monkeypatch.setattr(loaded, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig), raising=False)


def _own_cluster(folder: Path, asked: dict[str, Any], config: pytest.Config) -> Cluster:
    from labctl.testing.cluster import Cluster

    nodes = asked.get("nodes")
    cluster = Cluster(folder / "cluster", nodes=_number(config, "labctl_nodes") if nodes is None else int(nodes))
    cluster.start()
    return cluster


@pytest.fixture(scope="session")
def labctl_machines(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[_Shared]:
    """The lab of real machines that tests share. It is destroyed at the end."""
    from labctl.errors import LabctlError
    from labctl.lab import Lab, snapshots

    minions, provider = _number(pytestconfig, "labctl_minions"), pytestconfig.getini("labctl_provider")
    lab = Lab(tmp_path_factory.mktemp("labctl-lab"), minions=minions, provider=provider)
    try:
        lab.up(pytestconfig.getini("labctl_snapshot"))
        snapshots.save(lab, _name_of_clean(lab))
    except LabctlError as error:
        if lab.exists:
            lab.destroy()
        pytest.fail(f"labctl_lab: {error}", pytrace=False)
    try:
        yield _Shared(lab)
    finally:
        snapshots.delete(lab, _name_of_clean(lab))
        lab.destroy()


@pytest.fixture
def labctl_lab(labctl_machines: _Shared, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab of real machines, as it was when it had just come up: what the test before broke or left there is gone."""
    lab = labctl_machines.lab
    if labctl_machines.used:
        lab.up(_name_of_clean(lab))
    labctl_machines.used = True
    _lead_clients_to(lab.paths.kubeconfig, monkeypatch)
    return lab


def _name_of_clean(lab: Lab) -> str:
    """Several test runs share one folder of snapshots."""
    return f"{_CLEAN}-{lab.record['id']}"
