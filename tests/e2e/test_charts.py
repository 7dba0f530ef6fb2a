"""A chart in the habits of today's public ones, with the real helm on real machines: state, confinement, Jobs that make certificates, webhooks, a kind of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import wait
from tools.helm import fetch

CHART = Path(__file__).parent / "charts" / "shop"
PRICE = {"apiVersion": "shop.example.com/v1alpha1", "kind": "Price", "metadata": {"name": "tea", "namespace": "shop"}}


@pytest.fixture(scope="module")
def helm(cluster, provider_cache):
    binary = fetch(Path(provider_cache))
    environment = {**cluster.environment, "KUBECONFIG": str(cluster.folder / ".labctl" / "kubeconfig")}

    def run(*arguments: str, check: bool = True) -> str:
        command = [binary, *arguments, "-n", "shop"]
        done = subprocess.run(command, cwd=cluster.folder, env=environment, capture_output=True, text=True, timeout=240)
        assert not check or done.returncode == 0, f"helm {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run


def test_a_chart_of_today_lives_its_whole_life(cluster, helm):
    def kubectl(*arguments, **options):
        return cluster.kubectl("-n", "shop", *arguments, **options)

    def asked():
        """What the store answers the chart's own test."""
        helm("test", "shop", "--timeout", "90s")
        return kubectl("logs", "shop-test").stdout

    cluster.labctl("image", "build", "python", timeout_s=300)
    assert "The API server is at https." in helm("install", "shop", str(CHART), "--create-namespace", "--wait", "--timeout", "120s")
    assert asked() == "hello 1 uid=1001\n"
    left = kubectl("get", "jobs,roles,serviceaccounts", "-o", "name").stdout
    assert "admission" not in left, "what hooks made is gone when they have succeeded"
    _its_kind_is_judged_and_converted_by_its_pod(kubectl)
    before = kubectl("get", "secret", "shop", "-o", "jsonpath={.data.password}").stdout
    helm("upgrade", "shop", str(CHART), "--set", "greeting=good day,replicas=2", "--wait", "--timeout", "120s")
    assert asked() in ("good day 2 uid=1001\n", "good day 1 uid=1001\n"), "the first one's volume has counted, the second's is new"
    assert kubectl("get", "secret", "shop", "-o", "jsonpath={.data.password}").stdout == before, "looked up, not made anew"
    kubectl("label", "statefulset", "shop", "mine=yes")
    helm("rollback", "shop", "1", "--wait", "--timeout", "120s")
    wait(lambda: asked() == "hello 3 uid=1001\n", "one is left, which has started for the third time")
    assert kubectl("get", "statefulset", "shop", "-o", "jsonpath={.metadata.labels.mine}").stdout == "yes"
    kubectl("delete", "deployment", "shop-hooks")
    wait(lambda: "no endpoints available" in kubectl("get", "prices.v1.shop.example.com", check=False).stderr, "nobody converts")
    helm("uninstall", "shop", "--wait", "--timeout", "90s")
    none = '{"spec": {"conversion": {"strategy": "None", "webhook": null}}}'  # else the namespace waits for what nobody converts
    cluster.kubectl("patch", "crd", "prices.shop.example.com", "--type=merge", "-p", none)
    cluster.kubectl("delete", "namespace", "shop", "--timeout=60s", timeout_s=70)
    cluster.kubectl("delete", "crd", "prices.shop.example.com", "--timeout=30s")
    wait(lambda: not cluster.items("persistentvolumes"), "the volumes went with their set", 60)


def _its_kind_is_judged_and_converted_by_its_pod(kubectl):
    price = {**PRICE, "spec": {"cents": 0}}
    refused = kubectl("create", "-f", "-", input=json.dumps(price), check=False)
    assert (
        'Error from server (Forbidden): error when creating "STDIN": admission webhook "prices.shop.example.com" denied' in refused.stderr
    )
    assert "nothing is free" in refused.stderr
    kubectl("create", "-f", "-", input=json.dumps({**PRICE, "spec": {"cents": 250}}))
    assert kubectl("get", "prices.v1.shop.example.com", "tea", "-o", "jsonpath={.spec.amount}").stdout == "2.50"
    free = kubectl("patch", "prices.v1.shop.example.com", "tea", "--type=merge", "-p", '{"spec":{"amount":"0"}}', check=False)
    assert "nothing is free" in free.stderr, "a rule about v1alpha1 is asked about v1, too"
    kubectl("patch", "prices.v1.shop.example.com", "tea", "--type=merge", "-p", '{"spec":{"amount":"3.1"}}')
    assert kubectl("get", "prices.v1alpha1.shop.example.com", "tea", "-o", "jsonpath={.spec.cents}").stdout == "310"
