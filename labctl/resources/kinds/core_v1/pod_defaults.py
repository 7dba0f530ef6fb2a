"""What Kubernetes fills into a pod and all that it is made of: also into the pod of a template, in every kind that has one."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.resources.kind import Object, TypeDefaults
from labctl.resources.kinds.core_v1 import pod_totals, resize_rules

CORE = "io.k8s.api.core.v1."
_FILE_MODE = TypeDefaults(absent={"defaultMode": 0o644})


def pull_policy(image: str) -> str:
    """Always for `:latest`, said or meant; else IfNotPresent."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    return "Always" if tag == "latest" or (not colon and not digest) else "IfNotPresent"


def _container(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))


def _volume(volume: Object) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    image = volume.get("image")
    if image and not image.get("pullPolicy"):
        volume["image"] = {**image, "pullPolicy": pull_policy(image.get("reference", ""))}


def pod(pod: Object) -> None:
    """Fill what only a pod gets, and no template: requests follow limits, both may change without a restart, and on the host's network a port is the host's port."""
    spec = pod.setdefault("spec", {})
    spec.setdefault("enableServiceLinks", True)
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        resources = container.get("resources")
        if resources and resources.get("limits"):
            resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
        if spec.get("hostNetwork"):
            for port in container.get("ports", ()):
                port["hostPort"] = port.get("hostPort") or port.get("containerPort", 0)
    pod_totals.fill(spec)
    for container in (
        *spec.get("containers", ()),
        *(each for each in spec.get("initContainers", ()) if each.get("restartPolicy") == "Always"),
    ):
        resize_rules.default_policies(container)


_CONTAINER = TypeDefaults(zero={"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}, function=_container)

POD_TYPES: Mapping[str, TypeDefaults] = {
    CORE + "PodSpec": TypeDefaults(
        zero={"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"},
        absent={"terminationGracePeriodSeconds": 30, "securityContext": {}},
    ),
    CORE + "Container": _CONTAINER,
    CORE + "EphemeralContainer": _CONTAINER,
    CORE + "ContainerPort": TypeDefaults(zero={"protocol": "TCP"}),
    CORE + "Probe": TypeDefaults(zero={"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
    CORE + "HTTPGetAction": TypeDefaults(zero={"path": "/", "scheme": "HTTP"}),
    CORE + "GRPCAction": TypeDefaults(absent={"service": ""}),
    CORE + "ObjectFieldSelector": TypeDefaults(zero={"apiVersion": "v1"}),
    CORE + "ResourceFieldSelector": TypeDefaults(absent={"divisor": "0"}),
    CORE + "Volume": TypeDefaults(function=_volume),
    CORE + "SecretVolumeSource": _FILE_MODE,
    CORE + "ConfigMapVolumeSource": _FILE_MODE,
    CORE + "DownwardAPIVolumeSource": _FILE_MODE,
    CORE + "ProjectedVolumeSource": _FILE_MODE,
    CORE + "ServiceAccountTokenProjection": TypeDefaults(absent={"expirationSeconds": 3600}),
    CORE + "PersistentVolumeClaimSpec": TypeDefaults(absent={"volumeMode": "Filesystem"}),
    CORE + "HostPathVolumeSource": TypeDefaults(absent={"type": ""}),
}
