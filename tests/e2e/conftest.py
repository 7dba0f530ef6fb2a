"""Labs for scenarios. One wheel for the whole run, one lab for each file of scenarios that share one."""

import contextlib
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE, Cluster
from tests.existing import Rack

MACHINES_MAX = 3
"""That a scenario asks for."""
ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(400 * PATIENCE))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="namespace machines need root"))


@pytest.fixture(scope="session")
def built(request, tmp_path_factory) -> Path:
    """The folder of a wheel that is built once, whichever process of the run needs it first. LABCTL_TEST_WHEEL is one with a wheel that was built already."""
    if ready := os.environ.get("LABCTL_TEST_WHEEL"):
        return Path(ready)
    with _of_the_run(request, tmp_path_factory, "built") as folder:
        if not list(folder.glob("*.whl")):
            subprocess.run([*PIP, "wheel", "--no-deps", "-w", folder, ROOT], check=True, capture_output=True, text=True)
    return folder


@contextlib.contextmanager
def _of_the_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder that all processes of the run have in common, and for as long as the block lasts this one alone."""
    base = tmp_path_factory.getbasetemp()
    folder = (
        base.parent if hasattr(request.config, "workerinput") else base
    ) / name  # xdist's processes have folders of their own below the run's
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def wheel(request, built, tmp_path_factory) -> Path:
    """labctl as a stranger installs it: a wheel, outside the checkout. Each process has its own copy, as scenarios change what was installed."""
    with _of_the_run(request, tmp_path_factory, "installed") as folder:
        if not (folder / "complete").exists():
            subprocess.run(
                [*PIP, "install", "--no-deps", "--no-index", "--target", folder / "site", *built.glob("labctl-*.whl")], check=True
            )
            (folder / "complete").touch()
    site = tmp_path_factory.mktemp("wheel") / "site"
    shutil.copytree(folder / "site", site)  # times, too: what pip compiled is still good
    return site


@pytest.fixture(scope="session")
def state(request):
    """Where the labs of this run keep their state: a short path on a real disk, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="labctl-e2e-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def new_cluster(wheel, state, provider_cache):
    """A function that makes labs; all of them are destroyed at the end, also after failures."""
    clusters, racks = [], []

    def make(name: str, inside: tuple[str, ...] = (), **environment: str) -> Cluster:
        own_machines = os.environ.get("LABCTL_TEST_PROVIDER") == "ssh" and not inside
        if own_machines:
            racks.append(Rack(state / f"rack-{name}", provider_cache, MACHINES_MAX))
        cluster = Cluster(wheel, state / f"lab-{name}", state / "s", tuple(racks[-1].inside) if own_machines else inside, **environment)
        if own_machines:
            (cluster.folder / "lab.yml").write_text(json.dumps({"machines": [racks[-1].entry(each) for each in racks[-1].machines]}))
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.destroy()
    for rack in racks:
        rack.close()


@pytest.fixture(scope="session")
def images(request, tmp_path_factory, new_cluster):
    """The test images, built once into the machine's cache, whichever process needs them first. LABCTL_TEST_IMAGES=built says that they were, just before."""
    if os.environ.get("LABCTL_TEST_IMAGES") == "built":
        return
    with _of_the_run(request, tmp_path_factory, "images") as folder:
        if not (folder / "complete").exists():
            new_cluster("images").labctl("image", "build", "nginx", "busybox", "serve-hostname", timeout_s=600)
            (folder / "complete").touch()


def end(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    """Destroy a lab that scenarios shared; after a failure of any what is worth a look is kept."""
    if request.session.testsfailed:
        cluster.keep_artifacts(Path(tempfile.gettempdir()) / "labctl-artifacts" / cluster.folder.name)
    cluster.destroy()


@pytest.fixture(scope="session")
def enduring(request, new_cluster, images):
    """Two minions whose silence counts soon: what is survived, and what is said of virtual machines alone, share it, as boots take long there."""
    cluster = new_cluster("enduring")
    slow = PATIENCE > 1
    times = (PATIENCE / 2, 4 * PATIENCE, 1.5 * PATIENCE) if slow else (1, 3, 2)  # the slower the machines are, the rarer they speak
    cluster.lease_s, cluster.grace_s, cluster.evict_s = map(math.ceil, times)
    nodes = f"lease_s: {cluster.lease_s}, grace_s: {cluster.grace_s}, evict_s: {cluster.evict_s}"
    (cluster.folder / "lab.yml").write_text(f"nodes: {{{nodes}}}\npods: {{drain_s: {5 * PATIENCE if slow else 1:g}}}\n")
    cluster.labctl("up", "--minions", "2", timeout_s=600)
    yield cluster
    end(cluster, request)


@pytest.fixture(scope="module")
def cluster(request, new_cluster, images):
    """Two minions that are Ready, shared by the scenarios of one file."""
    cluster = new_cluster(request.module.__name__.rpartition(".")[2])
    if PATIENCE > 1:
        (cluster.folder / "lab.yml").write_text(f"pods: {{drain_s: {5 * PATIENCE:g}}}\n")
    cluster.labctl("up", "--minions", "2", timeout_s=600)
    yield cluster
    end(cluster, request)
