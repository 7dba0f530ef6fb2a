"""What may stand in a pod's spec, rule by rule in a real server's words and at its paths; and what it takes although it looks odd."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, controller, pod

STRATEGIC = "application/strategic-merge-patch+json"
SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of"
QUALIFIED = "name part must consist of alphanumeric characters"
MODE = "must be a number between 0 and 0777 (octal), both inclusive"
BYTES = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"


def containers(**container: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "a", "image": "b", **container}])


def volume(**source: Any) -> dict[str, Any]:
    return pod(volumes=[{"name": "a", **source}])


def mount(source: dict[str, Any] | None = None, privileged: bool = False, **said: Any) -> dict[str, Any]:
    context = {"securityContext": {"privileged": True}} if privileged else {}
    container = {"name": "a", "image": "b", "volumeMounts": [{"name": "v", "mountPath": "/v", **said}], **context}
    return pod(containers=[container], volumes=[{"name": "v", **(source or {})}])


def device(*devices: dict[str, Any], mounts: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    container = {"name": "a", "image": "b", "volumeDevices": list(devices), "volumeMounts": mounts or []}
    return pod(containers=[container], volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e"}])


def env(**source: Any) -> dict[str, Any]:
    return containers(env=[{"name": "A", "valueFrom": source}])


def projected(*sources: dict[str, Any]) -> dict[str, Any]:
    return volume(projected={"sources": list(sources)})


def on_host(**port: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80, **port}]}], "hostNetwork": True}


C, V, M, E = "spec.containers[0]", "spec.volumes[0]", "spec.containers[0].volumeMounts", "spec.containers[0].env[0].valueFrom"
D = "spec.containers[0].volumeDevices"

REFUSED = [
    # environment
    (env(fieldRef={"fieldPath": "metadata.labels"}), f'{E}.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values:'),
    (
        env(fieldRef={"fieldPath": "spec.volumes"}),
        f'{E}.fieldRef.fieldPath: Invalid value: "spec.volumes": error converting fieldPath: field label not supported: spec.volumes',
    ),
    (
        env(fieldRef={"fieldPath": "metadata.name['a']"}),
        f"{E}.fieldRef.fieldPath: Invalid value: \"metadata.name['a']\": error converting fieldPath: field label does not support subscript",
    ),
    (env(fieldRef={"fieldPath": "metadata.labels['a b']"}), f'{E}.fieldRef: Invalid value: "a b": {QUALIFIED}'),
    (
        env(resourceFieldRef={"resource": "limits.gpu"}),
        f'{E}.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", '
        '"limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"',
    ),
    (
        env(resourceFieldRef={"resource": "limits.cpu", "divisor": "2"}),
        f'{E}.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are supported with the cpu resource',
    ),
    (
        env(resourceFieldRef={"resource": "requests.memory", "divisor": "3Mi"}),
        f'{E}.resourceFieldRef.divisor: Invalid value: "requests.memory": only divisor\'s values {BYTES} are supported with the memory resource',
    ),
    (env(configMapKeyRef={"name": "A", "key": "a"}), f'{E}.configMapKeyRef.name: Invalid value: "A": {SUBDOMAIN}'),
    (env(secretKeyRef={"key": "a"}), f'{E}.secretKeyRef.name: Invalid value: "": {SUBDOMAIN}'),
    (env(fileKeyRef={"volumeName": "x", "path": "p", "key": "k"}), f'{E}.fileKeyRef.volumeName: Not found: "x"'),
    (containers(envFrom=[{"prefix": "A"}]), f'{C}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'),
    (containers(envFrom=[{"secretRef": {"name": "A"}}]), f'{C}.envFrom[0].secretRef.name: Invalid value: "A": {SUBDOMAIN}'),
    # mounts and devices
    (mount(subPath="/x"), f'{M}.subPath: Invalid value: "/x": must be a relative path'),
    (mount(subPathExpr="../x"), f"{M}.subPathExpr: Invalid value: \"../x\": must not contain '..'"),
    (
        mount(subPathExpr="$(A)", subPath="b"),
        f'{M}[0].subPathExpr: Invalid value: "$(A)": subPathExpr and subPath are mutually exclusive',
    ),
    (
        mount(mountPropagation="Both"),
        f'{M}.mountPropagation: Unsupported value: "Both": supported values: "Bidirectional", "HostToContainer", "None"',
    ),
    (
        mount(mountPropagation="Bidirectional"),
        f"{M}.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
    ),
    (mount(recursiveReadOnly="Enabled"), f"{M}.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"),
    (
        mount(recursiveReadOnly="Enabled", readOnly=True, mountPropagation="HostToContainer"),
        f"{M}.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
    ),
    (
        mount(recursiveReadOnly="Always"),
        f'{M}.recursiveReadOnly: Unsupported value: "Always": supported values: "Disabled", "Enabled", "IfPossible"',
    ),
    (device({"name": "x", "devicePath": "/x"}), f'{D}[0].name: Not found: "x"'),
    (device({"name": "v"}), f"{D}[0].devicePath: Required value"),
    (device({"devicePath": "/x"}), f"{D}[0].name: Required value"),
    (
        device({"name": "e", "devicePath": "/x"}),
        f'{D}[0].name: Invalid value: "e": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode',
    ),
    (device({"name": "v", "devicePath": "/a/../x"}), f"{D}[0].devicePath: Invalid value: \"/a/../x\": can not contain backsteps ('..')"),
    (device({"name": "v", "devicePath": "/x"}, {"name": "v", "devicePath": "/y"}), f'{D}[1].name: Invalid value: "v": must be unique'),
    (
        device({"name": "v", "devicePath": "/x"}, mounts=[{"name": "v", "mountPath": "/y"}]),
        f'{M}[0].name: Invalid value: "v": must not already exist in volumeDevices',
    ),
    (
        device({"name": "v", "devicePath": "/x"}, mounts=[{"name": "e", "mountPath": "/x"}]),
        f'{D}[0].devicePath: Invalid value: "/x": must not already exist as a path in volumeMounts',
    ),
    # probes and hooks
    (
        containers(livenessProbe={"httpGet": {"port": 80, "httpHeaders": [{"name": "A B", "value": ""}]}}),
        f"{C}.livenessProbe.httpGet.httpHeaders: Invalid value: \"A B\": a valid HTTP header must consist of alphanumeric characters or '-'",
    ),
    (
        containers(lifecycle={"preStop": {"sleep": {"seconds": 31}}}),
        f"{C}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
    ),
    # security
    (
        containers(securityContext={"procMount": "Unmasked"}),
        f'{C}.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
    ),
    (
        containers(securityContext={"seccompProfile": {"type": "Strict"}}),
        f'{C}.securityContext.seccompProfile.type: Unsupported value: "Strict": supported values: "Localhost", "RuntimeDefault", "Unconfined"',
    ),
    (
        pod(securityContext={"seccompProfile": {"type": "Localhost"}}),
        "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
    ),
    (
        pod(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "/a"}}),
        'spec.securityContext.seccompProfile.localhostProfile: Invalid value: "/a": must be a relative path',
    ),
    (
        pod(securityContext={"seccompProfile": {"type": "Unconfined", "localhostProfile": "a"}}),
        "can only be set when seccomp type is Localhost",
    ),
    (
        containers(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}}),
        f'{C}.securityContext.appArmorProfile.localhostProfile: Invalid value: " a": must not be padded with whitespace',
    ),
    (
        pod(securityContext={"fsGroupChangePolicy": "Never"}),
        'spec.securityContext.fsGroupChangePolicy: Unsupported value: "Never": supported values: "Always", "OnRootMismatch"',
    ),
    (
        pod(securityContext={"supplementalGroupsPolicy": "None"}),
        'spec.securityContext.supplementalGroupsPolicy: Unsupported value: "None": supported values: "Merge", "Strict"',
    ),
    (
        pod(hostPID=True, shareProcessNamespace=True),
        "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    (pod(hostUsers=False, hostPID=True), "spec.HostPID: Forbidden: when `hostUsers` is false"),
    (
        pod(
            hostUsers=False,
            volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
            containers=[{"name": "a", "image": "b", "volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}],
        ),
        "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
    ),
    (
        pod(hostNetwork=True, securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}),
        "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true",
    ),
    (
        pod(hostIPC=True, securityContext={"sysctls": [{"name": "kernel/shmmax", "value": "1"}]}),
        "spec.securityContext.sysctls[0].name: Invalid value: \"kernel/shmmax\": may not be specified when 'hostIPC' is true",
    ),
    (pod(os={"name": "plan9"}), 'spec.os: Unsupported value: "plan9": supported values: "linux", "windows"'),
    (pod(os={"name": "windows"}, hostPID=True), "spec.hostPID: Forbidden: cannot be set for a windows pod"),
    (
        pod(os={"name": "windows"}, containers=[{"name": "a", "image": "b", "securityContext": {"runAsUser": 1}}]),
        f"{C}.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
    ),
    (
        pod(os={"name": "linux"}, securityContext={"windowsOptions": {"hostProcess": False}}),
        "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
    ),
    # the pod
    (
        pod(**on_host(hostPort=81)),
        f"{C}.ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
    ),
    (pod(readinessGates=[{"conditionType": "a b"}]), f'spec.readinessGates[0].conditionType: Invalid value: "a b": {QUALIFIED}'),
    (pod(priorityClassName="A"), f'spec.priorityClassName: Invalid value: "A": {SUBDOMAIN}'),
    (pod(runtimeClassName="A"), f'spec.runtimeClassName: Invalid value: "A": {SUBDOMAIN}'),
    (
        pod(preemptionPolicy="Always"),
        'spec.preemptionPolicy: Unsupported value: "Always": supported values: "Never", "PreemptLowerPriority"',
    ),
    (pod(dnsPolicy="None"), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    (
        pod(tolerations=[{"key": "a", "value": "b c"}]),
        'spec.tolerations[0].operator: Invalid value: "b c": a valid label must be an empty string or consist of',
    ),
    (pod(resourceClaims=[{"name": "a"}]), "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
    (
        containers(resources={"claims": [{"name": "gpu"}]}),
        f'{C}.resources.claims[0]: Not found: "gpu": must be one of the names in pod.spec.resourceClaims which is empty',
    ),
    (
        {**pod(initContainers=[{"name": "i", "image": "b", "ports": [{"containerPort": 1, "hostPort": 1}] * 2}])},
        'spec.initContainers[0].ports[1].hostPort: Duplicate value: "TCP//1"',
    ),
    # volumes
    (volume(emptyDir={"sizeLimit": "-1"}), f"{V}.emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"),
    (
        volume(hostPath={"path": "/a", "type": "Folder"}),
        f'{V}.hostPath.type: Unsupported value: "Folder": supported values: "", "BlockDevice"',
    ),
    (volume(nfs={"server": "s", "path": "a"}), f'{V}.nfs.path: Invalid value: "a": must be an absolute path'),
    (volume(secret={"secretName": "s", "defaultMode": 512}), f"{V}.secret.defaultMode: Invalid value: 512: {MODE}"),
    (
        volume(configMap={"name": "s", "items": [{"key": "a", "path": "..a"}]}),
        f"{V}.configMap.items[0].path: Invalid value: \"..a\": must not start with '..'",
    ),
    (
        volume(configMap={"name": "s", "items": [{"key": "a", "path": "a", "mode": -1}]}),
        f"{V}.configMap.items[0].mode: Invalid value: -1: {MODE}",
    ),
    (volume(downwardAPI={"items": [{"path": "a"}]}), f"{V}.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"),
    (
        volume(downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "status.podIP"}}]}),
        f'{V}.downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels"',
    ),
    (
        volume(downwardAPI={"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}]}),
        f"{V}.downwardAPI.resourceFieldRef.containerName: Required value",
    ),
    (volume(csi={"driver": "a b"}), f'{V}.csi.driver: Invalid value: "a b": {SUBDOMAIN}'),
    (volume(iscsi={"lun": 0}), f"{V}.iscsi.targetPortal: Required value"),
    (volume(image={"pullPolicy": "Always"}), f"{V}.image.reference: Required value"),
    (volume(ephemeral={"volumeClaimTemplate": {"spec": {}}}), f"{V}.ephemeral.volumeClaimTemplate.spec.accessModes: Required value"),
    (
        projected({"secret": {"name": "a"}, "configMap": {"name": "a"}}),
        f"{V}.projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
    ),
    (projected({"secret": {}}), f"{V}.projected.sources[0].secret.name: Required value"),
    (
        projected(*[{"secret": {"name": "s", "items": [{"key": "a", "path": "a"}]}}] * 2),
        f'{V}.projected: Invalid value: "s": conflicting duplicate paths',
    ),
    (
        projected({"serviceAccountToken": {"path": "t", "expirationSeconds": 10}}),
        f"{V}.projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
    ),
    (projected({"clusterTrustBundle": {"path": "a"}}), "clusterTrustBundle: Required value: either name or signerName must be specified"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED, ids=[words[:70] for _, words in REFUSED])
async def test_refused(lab: Lab, body: dict[str, Any], words: str) -> None:
    revision = lab.store.revision
    error = await lab.refused("pods", body)
    assert (error.code, error.reason) == (422, "Invalid")
    assert words in error.message
    assert lab.store.revision == revision


TAKEN = [
    pod(terminationGracePeriodSeconds=-1),
    pod(
        affinity={
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}}
                ]
            }
        }
    ),
    pod(**on_host()),
    env(fieldRef={"fieldPath": "spec.host"}),
    env(resourceFieldRef={"resource": "limits.memory", "divisor": "1024Ki"}),
    mount(mountPropagation="Bidirectional", privileged=True),
    device({"name": "v", "devicePath": "/dev/x"}),
    containers(lifecycle={"preStop": {"sleep": {"seconds": 30}}}),
    volume(hostPath={"path": "/a", "type": "Socket"}),
    projected({"downwardAPI": {"items": [{"path": "a/b", "fieldRef": {"fieldPath": "metadata.labels['a/b']"}}]}}),
]


@pytest.mark.parametrize("body", TAKEN, ids=[str(number) for number in range(len(TAKEN))])
async def test_taken(lab: Lab, body: dict[str, Any]) -> None:
    await lab.create("pods", body)


async def test_a_template_leaves_to_its_pods_what_is_filled_in_later(lab: Lab) -> None:
    made = controller()
    made["spec"]["template"]["spec"] = {**on_host(), "volumes": [{"name": "v"}]}
    made["spec"]["template"]["spec"]["containers"][0]["image"] = " "
    await lab.create("replicationcontrollers", made)


async def test_a_claim_of_an_ephemeral_volume_is_no_other_volumes(lab: Lab) -> None:
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    volumes = [
        {"name": "v", "ephemeral": {"volumeClaimTemplate": template}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "one-v"}},
    ]
    await lab.create("pods", pod("two", volumes=volumes))
    assert lab.get("pods", "two")["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["spec"]["volumeMode"] == "Filesystem"  # type: ignore[index]
    error = await lab.refused("pods", pod("one", volumes=volumes))
    why = "must not reference a PVC that gets created for an ephemeral volume"
    assert error.message == f'Pod "one" is invalid: spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "one-v": {why}'


async def test_the_seconds_of_a_toleration_may_change(lab: Lab) -> None:
    await lab.create("pods", pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]))
    await lab.patch(
        "pods", "web", {"spec": {"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 6}]}}
    )
    with pytest.raises(ApiError, match="existing toleration can not be modified except its tolerationSeconds"):
        await lab.patch("pods", "web", {"spec": {"tolerations": [{"key": "b", "operator": "Exists"}]}})


async def test_a_negative_grace_period_may_become_one_second(lab: Lab) -> None:
    await lab.create("pods", pod(terminationGracePeriodSeconds=-1))
    with pytest.raises(ApiError, match="pod updates may not change fields other than"):
        await lab.patch("pods", "web", {"spec": {"terminationGracePeriodSeconds": 2}})
    await lab.patch("pods", "web", {"spec": {"terminationGracePeriodSeconds": 1}})
