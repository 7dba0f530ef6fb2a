"""An operator as people deploy it: a Deployment with a ServiceAccount and RBAC, on an image that labctl built. Its machine loses power, and it goes on on another."""

import io
import json
import tarfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.e2e.cluster import wait

HERE = Path(__file__).parent


def needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A package and all that it needs, as installed here. Debian does not have kopf, so it comes from this environment."""
    if name not in found:
        found[name] = distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for package in needed("kopf", {}).values():
            for file in package.files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    tar.add(file.locate(), str(file))
    return buffer.getvalue()


def shop(replicas: int) -> str:
    return json.dumps({"apiVersion": "example.com/v1", "kind": "Shop", "metadata": {"name": "corner"}, "spec": {"replicas": replicas}})


@pytest.fixture(scope="module")
def operated(cluster):
    pytest.importorskip("kopf")
    cluster.labctl("image", "build", "python", timeout_s=300)
    libraries = packed()
    for minion in ("minion-1", "minion-2"):
        script = "mkdir -p /var/lib/libraries && tar -xC /var/lib/libraries"
        cluster.labctl("ssh", minion, "--", script, input=libraries, text=False)
    cluster.kubectl("apply", "-f", str(HERE.parents[1] / "examples" / "testing" / "shop-crd.yml"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/shops.example.com", "--timeout=10s")
    cluster.kubectl("create", "configmap", "shopkeeper", f"--from-file=owner.py={HERE / 'operator_program.py'}")
    cluster.kubectl("apply", "-f", str(HERE / "operator_on_machines.yml"))
    cluster.kubectl("rollout", "status", "deployment/shopkeeper", "--timeout=90s", timeout_s=100)
    return cluster


def replicas(cluster) -> int:
    return sum(item["metadata"]["name"] == "corner" and item["spec"]["replicas"] for item in cluster.items("deployments"))


def test_it_makes_what_its_objects_say_with_the_rights_of_its_service_account(operated):
    operated.kubectl("apply", "-f", "-", input=shop(2))
    wait(lambda: replicas(operated) == 2, "the shop has its Deployment", 30)
    operated.kubectl("rollout", "status", "deployment/corner", "--timeout=60s", timeout_s=70)
    wait(lambda: operated.get("shops", "corner").get("status", {}).get("wanted") == 2, "the shop's status says it")
    who = ("--as", "system:serviceaccount:default:shopkeeper")
    assert operated.kubectl("auth", "can-i", "delete", "deployments", *who, check=False).stdout.strip() == "no"


def test_it_goes_on_when_its_machine_loses_power(operated):
    [pod] = operated.pods("app=shopkeeper")
    machine = pod["spec"]["nodeName"]
    operated.labctl("fault", "power-off", machine)
    operated.kubectl("apply", "-f", "-", input=shop(3))
    wait(lambda: replicas(operated) == 3, "another operator saw the change", 60)
    wait(
        lambda: [each["spec"]["nodeName"] != machine for each in operated.ready_pods("app=shopkeeper")] == [True],
        "it is ready elsewhere",
        30,
    )
    operated.labctl("up", timeout_s=300)


def test_what_it_owns_goes_with_its_object(operated):
    operated.kubectl("delete", "shop", "corner", timeout_s=90)
    wait(lambda: not replicas(operated), "the Deployment is gone", 30)
