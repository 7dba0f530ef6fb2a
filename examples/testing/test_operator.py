"""The operator's test: what it makes, what is refused, and what becomes of it when a machine dies."""

from pathlib import Path

import pytest
from kopf.testing import KopfRunner

HERE = Path(__file__).parent


@pytest.fixture
def shop(labctl_api):
    """The kind, the operator beside the test, and one shop of two."""
    labctl_api.apply(HERE / "shop-crd.yml")
    labctl_api.kubectl("wait", "--for=condition=Established", "crd/shops.example.com", "--timeout=10s")
    with KopfRunner(["run", f"--namespace={labctl_api.namespace}", str(HERE / "shop_operator.py")]) as operator:
        labctl_api.apply({"apiVersion": "example.com/v1", "kind": "Shop", "metadata": {"name": "corner"}, "spec": {"replicas": 2}})
        yield labctl_api
    assert operator.exit_code == 0 and operator.exception is None


def ready(api):
    return (api.get("shops.example.com", "corner") or {}).get("status", {}).get("ready", 0)


def test_a_shop_is_ready_also_after_a_machine_died(shop):
    shop.wait(lambda: ready(shop) == 2, within_s=20)
    shop.power_off("minion-1")
    shop.wait(lambda: "minion-1" not in shop.kubectl("get", "pods", "-o", "wide"))
    shop.wait(lambda: ready(shop) == 2)


def test_a_shop_of_less_than_nothing_is_refused(labctl_api):
    labctl_api.apply(HERE / "shop-crd.yml")
    labctl_api.kubectl("wait", "--for=condition=Established", "crd/shops.example.com", "--timeout=10s")
    shop = {"apiVersion": "example.com/v1", "kind": "Shop", "metadata": {"name": "odd"}, "spec": {"replicas": -1}}
    with pytest.raises(Exception, match="spec.replicas in body should be greater than or equal to 0"):
        labctl_api.apply(shop)
