"""Pod security: which pods a namespace's labels forbid, with Kubernetes' words, and who is warned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.admission.podsecurity.checks import violations
from labctl.admission.podsecurity.levels import LATEST, Standard
from labctl.clock import SystemClock
from labctl.errors import ApiError
from labctl.journal import MemoryJournal
from labctl.resources.client import Client
from labctl.resources.kind import Object
from labctl.resources.registry import builtin_registry
from labctl.resources.resources import Resources
from labctl.store.memory import memory_store

SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_SECURITY = "pod-security.kubernetes.io/"
BASELINE, RESTRICTED = Standard("baseline"), Standard("restricted")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    clock = SystemClock()
    resources = Resources(memory_store(), builtin_registry(), clock, MemoryJournal(clock))
    client = Client(resources)
    resources.use_admission(builtin_admission(client, clock))
    yield client
    await resources.store.close()


async def namespace(client: Client, name: str, **labels: str) -> None:
    await client.create(
        "namespaces", {"metadata": {"name": name, "labels": {POD_SECURITY + k.replace("_", "-"): v for k, v in labels.items()}}}
    )


def container(name: str = "c", **fields: Any) -> Object:
    return {"name": name, "image": "x", **fields}


def found(standard: Standard, spec: Object, annotations: dict[str, str] | None = None) -> list[str]:
    return [f"{reason} ({where})" for reason, where in violations(standard, {"annotations": annotations or {}}, spec)]


def pod(name: str, space: str, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": space}, "spec": {"containers": [container()], **spec}}


BAD: list[tuple[Object, str]] = [
    ({"hostNetwork": True, "hostPID": True, "hostIPC": True}, "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)"),
    (
        {"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]},
        'hostPath volumes (volumes "v", "w")',
    ),
    ({"containers": [container(ports=[{"hostPort": 90}, {"hostPort": 800}])]}, 'hostPort (container "c" uses hostPorts 800, 90)'),
    (
        {"containers": [container(), container("d", securityContext={"privileged": True})]},
        'privileged (container "d" must not set securityContext.privileged=true)',
    ),
    (
        {"initContainers": [container("i", securityContext={"capabilities": {"add": ["NET_RAW", "CHOWN"]}})]},
        'non-default capabilities (container "i" must not include "NET_RAW" in securityContext.capabilities.add)',
    ),
    (
        {"containers": [container(livenessProbe={"httpGet": {"host": "10.0.0.1", "port": 1}})]},
        'probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")',
    ),
    (
        {"containers": [container(securityContext={"procMount": "Unmasked"})]},
        'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}, "ephemeralContainers": [container("e")]},
        'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
        'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
    ),
    (
        {
            "securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}},
            "containers": [container(securityContext={"seLinuxOptions": {"role": "r"}})],
        },
        'seLinuxOptions (pod and container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set)',
    ),
    (
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}, {"name": "net.ipv4.tcp_rmem", "value": "1"}]}},
        "forbidden sysctls (kernel.msgmax)",
    ),
    (
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    ),
]


@pytest.mark.parametrize(("spec", "words"), BAD)
def test_what_no_pod_of_the_baseline_may_have(spec: Object, words: str) -> None:
    """Restricted pods may have it less still; there, a stricter check of the same thing speaks instead."""
    spec = {"containers": [container()], **spec}
    assert found(BASELINE, spec) == [words]
    assert found(Standard("privileged"), spec) == []
    assert found(RESTRICTED, spec)


def test_what_a_restricted_pod_must_say() -> None:
    assert found(RESTRICTED, {"containers": [container(), container("d")]}) == [
        'allowPrivilegeEscalation != false (containers "c", "d" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (containers "c", "d" must set securityContext.capabilities.drop=["ALL"])',
        'runAsNonRoot != true (pod or containers "c", "d" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or containers "c", "d" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
    ]
    assert found(RESTRICTED, {"containers": [container(securityContext=SAFE)]}) == []
    of_pod = {key: SAFE[key] for key in ("runAsNonRoot", "seccompProfile")}
    of_container = {key: SAFE[key] for key in ("allowPrivilegeEscalation", "capabilities")}
    assert found(RESTRICTED, {"securityContext": of_pod, "containers": [container(securityContext=of_container)]}) == []


def test_what_a_restricted_pod_may_not_say() -> None:
    bad = {**SAFE, "runAsNonRoot": False, "runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}
    volumes = [{"name": "a", "nfs": {"server": "s", "path": "/"}}, {"name": "b", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/"}}]
    assert found(RESTRICTED, {"containers": [container(securityContext=bad)], "volumes": volumes}) == [
        'unrestricted capabilities (container "c" must not include "CHOWN" in securityContext.capabilities.add)',
        'restricted volume types (volumes "a", "h" use restricted volume types "hostPath", "nfs")',
        'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
        'runAsUser=0 (container "c" must not set runAsUser=0)',
    ]


def test_a_level_is_as_of_its_release() -> None:
    spec = {"containers": [container(livenessProbe={"tcpSocket": {"host": "h", "port": 1}})]}
    assert found(Standard("baseline", 33), spec) == []
    assert len(found(Standard("baseline", 34), spec)) == 1
    sysctl = {"containers": [container()], "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}
    assert found(Standard("baseline", 31), sysctl) == ["forbidden sysctls (net.ipv4.tcp_rmem)"]
    assert found(Standard("baseline", 32), sysctl) == []
    idle = {"containers": [container()], "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_slow_start_after_idle", "value": "0"}]}}
    assert len(found(Standard("baseline", 36), idle)) == 1 and found(Standard("baseline", 37), idle) == []
    assert found(Standard("restricted", 7), {"containers": [container(securityContext={"runAsNonRoot": True, "runAsUser": 0})]}) == []
    rooted = {"hostUsers": False, "containers": [container(securityContext={**SAFE, "runAsNonRoot": False, "runAsUser": 0})]}
    assert found(RESTRICTED, rooted) == [] and len(found(Standard("restricted", 34), rooted)) == 2
    windows = {"os": {"name": "windows"}, "containers": [container(securityContext={"runAsNonRoot": True})]}
    assert found(Standard("restricted", LATEST), windows) == [] and len(found(Standard("restricted", 24), windows)) == 3
    note = {"container.seccomp.security.alpha.kubernetes.io/c": "unconfined"}
    assert found(Standard("baseline", 18), {"containers": [container()]}, note) == [
        'seccompProfile (forbidden annotation container.seccomp.security.alpha.kubernetes.io/c="unconfined")'
    ]
    assert found(BASELINE, {"containers": [container()]}, note) == []


async def test_a_pod_is_refused_and_may_become_no_worse(client: Client) -> None:
    await namespace(client, "strict", enforce="restricted", enforce_version="v1.37")
    with pytest.raises(ApiError) as refused:
        await client.create("pods", pod("p", "strict"))
    assert refused.value.code == 403
    assert str(refused.value).startswith(
        'pods "p" is forbidden: violates PodSecurity "restricted:v1.37": allowPrivilegeEscalation != false (container "c"'
    )
    await client.create("pods", pod("p", "strict", containers=[container(securityContext=SAFE)]))
    await client.patch("pods", "strict/p", {"metadata": {"labels": {"a": "b"}}})
    await namespace(client, "open")
    await client.create("pods", pod("p", "open", hostNetwork=True))
    await client.patch("namespaces", "open", {"metadata": {"labels": {POD_SECURITY + "enforce": "baseline"}}})
    await client.patch("pods", "open/p", {"metadata": {"labels": {"a": "b"}}})  # what was there may stay, and be labelled
    there = client.raw("pods", "open/p")
    assert there is not None
    there["spec"]["containers"][0]["image"] = "y"
    with pytest.raises(ApiError, match=r"host namespaces \(hostNetwork=true\)"):
        await client.patch("pods", "open/p", {"spec": {"containers": there["spec"]["containers"]}})


@pytest.mark.parametrize(
    ("label", "value", "why"),
    [
        ("enforce", "strict", "must be one of privileged, baseline, restricted"),
        ("audit", "", "must be one of privileged, baseline, restricted"),
        ("warn-version", "1.30", 'must be "latest" or "v1.x"'),
    ],
)
async def test_labels_that_say_nothing_are_refused(client: Client, label: str, value: str, why: str) -> None:
    with pytest.raises(ApiError) as refused:
        await namespace(client, "n", **{label: value})
    assert str(refused.value) == f'Namespace "n" is invalid: metadata.labels[{POD_SECURITY}{label}]: Invalid value: "{value}": {why}'
    await namespace(client, "n")
    with pytest.raises(ApiError, match="is invalid"):
        await client.patch("namespaces", "n", {"metadata": {"labels": {POD_SECURITY + label: value}}})
