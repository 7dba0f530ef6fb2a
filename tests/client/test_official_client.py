"""The official Python client beyond single calls: its dynamic client with a custom kind, informer, leader election, patches by type, and manifests from YAML."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

PATIENCE_S = 30
SHOPS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: stalls.clients.example.com}
spec:
  group: clients.example.com
  scope: Namespaced
  names: {plural: stalls, singular: stall, kind: Stall, shortNames: [st]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {replicas: {type: integer, minimum: 0, default: 1}, wares: {type: array, items: {type: string}}}}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
MANIFESTS = """
---
# An empty document before, comments, several kinds: as charts render them.
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx, envFrom: [{configMapRef: {name: settings}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


@pytest.fixture
def api_client(labctl_api: Any) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(labctl_api.kubeconfig)) as made:
        yield made


def test_manifests_from_yaml_become_ready(labctl_api: Any, api_client: client.ApiClient) -> None:
    namespace, apps = labctl_api.namespace, client.AppsV1Api(api_client)
    utils.create_from_yaml(api_client, yaml_objects=[each for each in yaml.safe_load_all(MANIFESTS) if each], namespace=namespace)
    labctl_api.wait(lambda: apps.read_namespaced_deployment_status("web", namespace).status.ready_replicas == 2)
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    scale.spec.replicas = 3
    apps.replace_namespaced_deployment_scale("web", namespace, scale)
    labctl_api.wait(lambda: apps.read_namespaced_deployment_status("web", namespace).status.ready_replicas == 3)
    slices = client.DiscoveryV1Api(api_client).list_namespaced_endpoint_slice(namespace, label_selector="kubernetes.io/service-name=web")
    labctl_api.wait(lambda: slices.items)
    with pytest.raises(utils.FailToCreateError) as twice:
        utils.create_from_yaml(api_client, yaml_objects=[{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}])
    assert "AlreadyExists" in str(twice.value)


def test_each_type_of_patch(labctl_api: Any, api_client: client.ApiClient) -> None:
    namespace, core = labctl_api.namespace, client.CoreV1Api(api_client)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}})
    patch = core.patch_namespaced_config_map
    assert patch("c", namespace, [{"op": "remove", "path": "/data/a"}]).data == {"b": "2"}, "a list is a JSON patch"
    assert patch("c", namespace, {"data": {"b": None, "c": "3"}}, _content_type="application/merge-patch+json").data == {"c": "3"}
    assert patch("c", namespace, {"data": {"d": "4"}}, _content_type="application/strategic-merge-patch+json").data == {"c": "3", "d": "4"}
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"d": "5"}}
    with pytest.raises(ApiException) as conflict:
        patch("c", namespace, applied, _content_type="application/apply-patch+yaml", field_manager="applier")
    assert conflict.value.status == 409 and "conflict with" in conflict.value.body
    taken = patch("c", namespace, applied, _content_type="application/apply-patch+yaml", field_manager="applier", force=True)
    assert taken.data == {"c": "3", "d": "5"} and {each.manager for each in taken.metadata.managed_fields} >= {"applier"}


def test_a_watch_has_bookmarks_and_starts_anew_where_it_is_too_old(labctl_api: Any, api_client: client.ApiClient) -> None:
    namespace, core = labctl_api.namespace, client.CoreV1Api(api_client)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "first"}})
    begun = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "second"}})
    seen = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, resource_version=begun, timeout_seconds=1, allow_watch_bookmarks=True
    )
    assert [(each["type"], each["object"].metadata.name) for each in seen if each["type"] != "BOOKMARK"] == [("ADDED", "second")]
    streamed = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, send_initial_events=True, resource_version_match="NotOlderThan",
        resource_version="0", allow_watch_bookmarks=True, timeout_seconds=1,
    )  # fmt: skip
    events = list(streamed)
    mark = next(each for each in events if each["type"] == "BOOKMARK")
    said = mark["raw_object"]["metadata"]["annotations"]
    assert said == {"k8s.io/initial-events-end": "true"}
    assert {each["object"].metadata.name for each in events[: events.index(mark)]} >= {"first", "second"}


def test_the_dynamic_client_with_a_custom_kind(labctl_api: Any, api_client: client.ApiClient) -> None:
    namespace = labctl_api.namespace
    dynamic_client = dynamic.DynamicClient(api_client)
    definitions = dynamic_client.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create(body=yaml.safe_load(SHOPS))
    labctl_api.kubectl("wait", "--for=condition=Established", "crd/stalls.clients.example.com", "--timeout=10s")
    dynamic_client.resources.invalidate_cache()
    stalls = dynamic_client.resources.get(api_version="clients.example.com/v1", kind="Stall")
    body = {"apiVersion": "clients.example.com/v1", "kind": "Stall", "metadata": {"name": "corner"}, "spec": {"wares": ["tea"]}}
    made = stalls.create(body=body, namespace=namespace)
    assert made.spec.replicas == 1, "the schema's default"
    patched = stalls.patch(name="corner", namespace=namespace, body={"spec": {"replicas": 2}}, content_type="application/merge-patch+json")
    assert patched.spec.replicas == 2 and patched.metadata.generation == 2
    applied = stalls.server_side_apply(name="corner", namespace=namespace, body={**body, "spec": {"wares": ["tea", "salt"]}}, field_manager="t", force_conflicts=True)  # fmt: skip
    assert applied.spec.wares == ["tea", "salt"] and applied.spec.replicas == 2
    status = stalls.status.patch(
        name="corner", namespace=namespace, body={"status": {"replicas": 2}}, content_type="application/merge-patch+json"
    )
    assert status.status.replicas == 2 and status.metadata.generation == 3
    assert stalls.scale.get(name="corner", namespace=namespace).status.replicas == 2
    types = [each["type"] for each in stalls.watch(namespace=namespace, timeout=1)]
    assert types == ["ADDED"]
    custom = client.CustomObjectsApi(api_client)
    listed = custom.list_namespaced_custom_object("clients.example.com", "v1", namespace, "stalls")
    assert [each["metadata"]["name"] for each in listed["items"]] == ["corner"]
    with pytest.raises(ApiException) as wrong:
        custom.patch_namespaced_custom_object("clients.example.com", "v1", namespace, "stalls", "corner", {"spec": {"replicas": -1}})
    assert wrong.value.status == 422 and "should be greater than or equal to 0" in wrong.value.body
    stalls.delete(name="corner", namespace=namespace)
    labctl_api.wait(lambda: not stalls.get(namespace=namespace).items)


def test_an_informer_keeps_a_cache(labctl_api: Any, api_client: client.ApiClient) -> None:
    namespace, core = labctl_api.namespace, client.CoreV1Api(api_client)
    told: list[tuple[str, str]] = []
    informer = SharedInformer(core.list_namespaced_config_map, namespace=namespace, label_selector="kept=yes")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(kind, lambda each, kind=kind: told.append((kind, each.metadata.name)))
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "before", "labels": {"kept": "yes"}}})
    informer.start()
    try:
        labctl_api.wait(lambda: ("ADDED", "before") in told)
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "after", "labels": {"kept": "yes"}}})
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "other"}})
        core.patch_namespaced_config_map("before", namespace, {"data": {"k": "v"}})
        labctl_api.wait(lambda: ("MODIFIED", "before") in told and ("ADDED", "after") in told)
        core.patch_namespaced_config_map("after", namespace, {"metadata": {"labels": {"kept": "no"}}})
        labctl_api.wait(lambda: ("DELETED", "after") in told)
        assert [each.metadata.name for each in informer.cache.list()] == ["before"]
    finally:
        informer.stop()


class Candidate:
    """One who wants to lead, in a thread of its own. `lost` cuts it off: it can write its lock no more."""

    def __init__(self, lock: Any, led: list[str]) -> None:
        self.stopped = threading.Event()
        self._lock, self._led, self._write = lock, led, lock.update
        lock.update = self._update
        self._cut = False
        settings = electionconfig.Config(lock, 3, 2, 1, lambda *_told: led.append(lock.identity), self.stopped.set)
        threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()

    def _update(self, *arguments: Any) -> bool:
        return False if self._cut else self._write(*arguments)

    def lost(self) -> None:
        self._cut = True


@pytest.mark.parametrize("lock", [ConfigMapLock, LeaseLock])
def test_one_leads_and_another_follows_when_it_is_cut_off(labctl_api: Any, lock: Callable[..., Any]) -> None:
    config.load_kube_config(str(labctl_api.kubeconfig))
    led: list[str] = []
    one = Candidate(lock("leader", labctl_api.namespace, "one"), led)
    labctl_api.wait(lambda: led == ["one"])
    two = Candidate(lock("leader", labctl_api.namespace, "two"), led)
    one.lost()
    assert one.stopped.wait(PATIENCE_S) and not two.stopped.is_set()
    labctl_api.wait(lambda: led == ["one", "two"], PATIENCE_S)
    two.lost()
    assert two.stopped.wait(PATIENCE_S)
