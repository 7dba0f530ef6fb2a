"""What Kubernetes' own validation refuses, and on which field: inputs such as its tests have, each with the error that it is answered with."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.kinds.core_v1.probe_rules import hooks
from tests.resources.conftest import Lab, controller, pod, service

IQN = "iqn.2015-02.example.com:test"
MIRROR = "kubernetes.io/config.mirror"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
CLASS = "volume.beta.kubernetes.io/storage-class"
FORM = "must be valid format"
PAIRS = "must be a host:port pair or multiple pairs separated by commas"
Cases = list[tuple[dict[str, Any], str, str]]


def iscsi(**fields: Any) -> dict[str, Any]:
    return {"iscsi": {"targetPortal": "127.0.0.1", "iqn": IQN, "lun": 1, **fields}}


VOLUMES: Cases = [
    (iscsi(iqn="2015-02.example.com:test"), "iscsi.iqn", "must be valid format starting with iqn, eui, or naa"),
    (iscsi(iqn=IQN + ";ls;"), "iscsi.iqn", FORM),
    (iscsi(iqn="eui.0123456789ABCDEFGHIJ"), "iscsi.iqn", FORM),
    (iscsi(iqn="naa.62004567BA_4-78D.123456789ABCDEF"), "iscsi.iqn", FORM),
    (iscsi(lun=256), "iscsi.lun", "must be between 0 and 255, inclusive"),
    (iscsi(initiatorName="2015-02.example.com:init"), "iscsi.initiatorname", "must be valid format starting with iqn, eui, or naa"),
    (iscsi(chapAuthSession=True), "iscsi.secretRef", "Required value"),
    ({"fc": {"lun": 1}}, "fc.targetWWNs", "must specify either targetWWNs or wwids, but not both"),
    ({"fc": {"targetWWNs": ["a"], "wwids": ["b"], "lun": 1}}, "fc.targetWWNs", "can not be specified simultaneously"),
    ({"fc": {"targetWWNs": ["a"]}}, "fc.lun", "lun is required if targetWWNs is specified"),
    ({"fc": {"targetWWNs": ["a"], "lun": 256}}, "fc.lun", "must be between 0 and 255, inclusive"),
    ({"quobyte": {"volume": "v"}}, "quobyte.registry", PAIRS),
    ({"quobyte": {"volume": "v", "registry": "registry7861"}}, "quobyte.registry", PAIRS),
    ({"quobyte": {"volume": "v", "registry": "registry:7861,reg2"}}, "quobyte.registry", PAIRS),
    ({"quobyte": {"registry": "registry:7861"}}, "quobyte.volume", "Required value"),
    ({"quobyte": {"volume": "v", "registry": "registry:7861", "tenant": "t" * 65}}, "quobyte.tenant", "may not exceed a length of 64"),
    ({"flocker": {}}, "flocker", "one of datasetName and datasetUUID is required"),
    ({"flocker": {"datasetName": "a", "datasetUUID": "b"}}, "flocker", "can not be specified simultaneously"),
    ({"flocker": {"datasetName": "a/b"}}, "flocker.datasetName", "must not contain '/'"),
    ({"flexVolume": {"driver": "d", "options": {"Test.K8s.io/x": "1"}}}, "flexVolume.options[Test.K8s.io/x]", "are reserved"),
]
OF_PODS_ALONE: Cases = [
    ({"gitRepo": {"repository": "r", "directory": "dots/../bar"}}, "gitRepo.directory", "must not contain '..'"),
    ({"gitRepo": {"repository": "r", "directory": "/abs"}}, "gitRepo.directory", "must be a relative path"),
    (
        {"ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "not allowed"}}, "spec": {}}}},
        "ephemeral.volumeClaimTemplate.metadata.labels",
        "a valid label must be",
    ),
]
WINDOWS: Cases = [
    ({"gmsaCredentialSpecName": "a_b"}, "gmsaCredentialSpecName", "a lowercase RFC 1123 subdomain"),
    ({"gmsaCredentialSpec": ""}, "gmsaCredentialSpec", "cannot be an empty string"),
    ({"gmsaCredentialSpec": "a" * (65 << 10)}, "gmsaCredentialSpec", "size must be under 64 KiB"),
    *(
        ({"runAsUserName": name}, "runAsUserName", f"runAsUserName{why}")
        for name, why in (
            ("", " cannot be an empty string"),
            ("Container\tUser", " cannot contain control characters"),
            ("Container\\Foo\\Lish", " cannot contain more than one backslash"),
            ("\\User", "'s Domain doesn't match the NetBios nor the DNS format"),
            ("Container\\", "'s User cannot be empty"),
            ("NetBios Host Name\\user", "'s Domain doesn't match the NetBios nor the DNS format"),
            (".FooLish\\User", "'s Domain doesn't match the NetBios nor the DNS format"),
            (f"{'a' * 256}\\User", "'s Domain length must be under 256 characters"),
            ("a" * 105, "'s User length must not be longer than 104 characters"),
            ("... ...", "'s User cannot contain only periods or spaces"),
            ("Container/User", "'s User cannot contain the following characters"),
        )
    ),
]
ANNOTATIONS: Cases = [
    ({MIRROR: "x"}, f"[{MIRROR}]", "must set spec.nodeName if mirror pod annotation is set"),
    ({APPARMOR + "other": "runtime/default"}, f"[{APPARMOR}other]", "container not found"),
    ({APPARMOR + "main": "bad-name"}, f"[{APPARMOR}main]", 'invalid AppArmor profile name: "bad-name"'),
    ({SECCOMP: "foo"}, f".{SECCOMP}", "must be a valid seccomp profile"),
    ({SECCOMP: "localhost/../foo"}, f".{SECCOMP}", "must not contain '..'"),
    (
        {f"container.{SECCOMP.removesuffix('pod')}main": ""},
        f".container.{SECCOMP.removesuffix('pod')}main",
        "must be a valid seccomp profile",
    ),
]


async def causes(lab: Lab, resource: str, obj: dict[str, Any]) -> list[str]:
    error = await lab.refused(resource, obj)
    assert error.reason == "Invalid", error
    return [f"{cause['field']}: {cause['message']}" for cause in error.details["causes"]]


async def assert_refused(lab: Lab, resource: str, obj: dict[str, Any], field: str, why: str) -> None:
    found = await causes(lab, resource, obj)
    assert any(each.startswith(f"{field}: ") and why in each for each in found), found


@pytest.mark.parametrize(("volume", "field", "why"), [*VOLUMES, *OF_PODS_ALONE])
async def test_volumes_of_pods(lab: Lab, volume: dict[str, Any], field: str, why: str) -> None:
    await assert_refused(lab, "pods", pod(volumes=[{"name": "v", **volume}]), f"spec.volumes[0].{field}", why)


@pytest.mark.parametrize(("volume", "field", "why"), VOLUMES)
async def test_persistent_volumes(lab: Lab, volume: dict[str, Any], field: str, why: str) -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], **volume}
    await assert_refused(lab, "persistentvolumes", {"metadata": {"name": "v"}, "spec": spec}, f"spec.{field}", why)


async def test_volumes_that_are_right(lab: Lab) -> None:
    sources = [
        iscsi(initiatorName=IQN, chapAuthDiscovery=True, secretRef={"name": "s"}),
        iscsi(iqn="eui.0123456789ABCDEF"),
        iscsi(iqn="naa.62004567BA64678D0123456789ABCDEF"),
        {"fc": {"wwids": ["a"]}},
        {"quobyte": {"registry": "registry:7861,[::1]:1", "volume": "v", "tenant": "t" * 64}},
        {"flocker": {"datasetUUID": "u"}},
        {"gitRepo": {"repository": "r", "directory": "a/b"}},
        {"flexVolume": {"driver": "d", "options": {"mykubernetes.io/x": "1"}}},
    ]
    await lab.create("pods", pod(volumes=[{"name": f"v{number}", **source} for number, source in enumerate(sources)]))


async def test_a_persistent_volume_of_iscsi_has_a_short_name_and_a_named_secret(lab: Lab) -> None:
    source = iscsi(initiatorName=IQN, secretRef={"namespace": "n"})
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], **source}
    found = await causes(lab, "persistentvolumes", {"metadata": {"name": "v" * 60}, "spec": spec})
    assert [each.partition(":")[0] for each in found] == ["spec.iscsi.targetportal", "spec.iscsi.secretRef.name"]


@pytest.mark.parametrize(("options", "field", "why"), WINDOWS)
async def test_options_of_windows(lab: Lab, options: dict[str, Any], field: str, why: str) -> None:
    context = {"securityContext": {"windowsOptions": options}}
    await assert_refused(lab, "pods", pod(**context), f"spec.securityContext.windowsOptions.{field}", why)
    container = pod(containers=[{"name": "c", "image": "i", **context}])
    await assert_refused(lab, "pods", container, f"spec.containers[0].securityContext.windowsOptions.{field}", why)


async def test_processes_of_a_windows_host(lab: Lab) -> None:
    def context(value: bool | None) -> dict[str, Any]:
        return {"securityContext": {"windowsOptions": {} if value is None else {"hostProcess": value}}}

    def asked(of_pod: bool | None, *of_containers: bool | None, **spec: Any) -> dict[str, Any]:
        containers = [{"name": f"c{number}", "image": "i", **context(each)} for number, each in enumerate(of_containers)]
        return pod(containers=containers, **context(of_pod), **spec)

    some, outside = "If pod contains any hostProcess containers then all", "hostNetwork must be true if pod contains any hostProcess"
    await assert_refused(lab, "pods", asked(None, True, None, hostNetwork=True), "spec", some)
    await assert_refused(lab, "pods", asked(True, None), "spec.hostNetwork", outside)
    field = "spec.containers[0].securityContext.windowsOptions.hostProcess"
    await assert_refused(lab, "pods", asked(True, False, hostNetwork=True), field, "must be identical if both are specified, was true")
    await lab.create("pods", asked(True, None, True, hostNetwork=True))
    names = ["NT AUTHORITY\\SYSTEM", "Container User", "my.dom\\Foo.lish User"]
    contexts = [{"securityContext": {"windowsOptions": {"runAsUserName": name}}} for name in names]
    right = [{"name": f"c{number}", "image": "i", **each} for number, each in enumerate(contexts)]
    await lab.create("pods", pod("named", containers=right))


@pytest.mark.parametrize(("annotations", "field", "why"), ANNOTATIONS)
async def test_annotations_of_pods_and_templates(lab: Lab, annotations: dict[str, str], field: str, why: str) -> None:
    await lab.create("pods", pod("before"))
    made = pod()
    made["metadata"]["annotations"] = annotations
    await assert_refused(lab, "pods", made, f"metadata.annotations{field}", why)
    from_it = controller()
    from_it["spec"]["template"]["metadata"]["annotations"] = annotations
    await assert_refused(lab, "replicationcontrollers", from_it, f"spec.template.annotations{field}", why)


async def test_annotations_that_are_fixed_when_a_pod_is_made(lab: Lab) -> None:
    made = pod(nodeName="n")
    made["metadata"]["annotations"] = {MIRROR: "x", APPARMOR + "main": "localhost/p", SECCOMP: "runtime/default"}
    await lab.create("pods", made)
    await lab.create("pods", pod("other"))
    for name, key, value, words in (
        ("web", MIRROR, None, "may not remove or update mirror pod annotation"),
        ("web", APPARMOR + "main", "unconfined", "may not remove or update AppArmor annotations"),
        ("other", MIRROR, "x", "may not add mirror pod annotation"),
        ("other", APPARMOR + "main", "unconfined", "may not add AppArmor annotations"),
    ):
        with pytest.raises(ApiError, match=words):
            await lab.patch("pods", name, {"metadata": {"annotations": {key: value}}})
    await lab.patch("pods", "web", {"metadata": {"annotations": {SECCOMP: None, "a": "b"}}})


async def test_ranges_in_the_annotation_of_a_service(lab: Lab) -> None:
    def annotated(ranges: str, **spec: Any) -> dict[str, Any]:
        made = service(**spec)
        made["metadata"]["annotations"] = {RANGES: ranges}
        return made

    field = f"metadata.annotations[{RANGES}]"
    await assert_refused(lab, "services", annotated("10.0.0.0/8"), field, "may only be used when `type` is 'LoadBalancer'")
    await assert_refused(lab, "services", annotated("1.2.3.4/33", type="LoadBalancer"), field, "must be a valid CIDR value")
    await lab.create("services", annotated(" 10.0.0.0/8, 11.0.0.0/8 ", type="LoadBalancer"))
    with pytest.raises(ApiError, match="must be a valid CIDR value"):
        await lab.patch("services", "web", {"metadata": {"annotations": {RANGES: "foo.bar"}}})


async def test_a_runtime_class_says_where_its_pods_may_be_and_what_they_cost(lab: Lab) -> None:
    def class_(**fields: Any) -> dict[str, Any]:
        return {"metadata": {"name": "c"}, "handler": "h", **fields}

    there = {"key": "a", "operator": "Exists", "effect": "NoExecute"}
    for fields, field, why in (
        ({"overhead": {"podFixed": {"my.org": "1"}}}, "overhead.limits[my.org]", "must be a standard resource type or fully qualified"),
        ({"scheduling": {"nodeSelector": {"no key!": "a"}}}, "scheduling.nodeSelector", "name part must consist of"),
        ({"scheduling": {"tolerations": [{"key": "no key!"}]}}, "scheduling.tolerations[0].key", "name part must consist of"),
        ({"scheduling": {"tolerations": [there, {**there, "tolerationSeconds": 5}]}}, "scheduling.tolerations[1]", "Duplicate value"),
    ):
        await assert_refused(lab, "runtimeclasses.node.k8s.io", class_(**fields), field, why)
    scheduling = {"nodeSelector": {"a": "b"}, "tolerations": [there, {**there, "effect": "NoSchedule"}]}
    await lab.create("runtimeclasses.node.k8s.io", class_(overhead={"podFixed": {"cpu": "1m"}}, scheduling=scheduling))


@pytest.mark.parametrize(
    ("by", "os", "why"),
    [
        ("SIGFOO", "linux", 'Unsupported value: "SIGFOO": supported values: "SIGABRT"'),
        ("SIGUSR1", "windows", 'supported values: "SIGKILL", "SIGTERM"'),
        ("SIGUSR1", "", "Forbidden: may not be set for containers with empty `spec.os.name`"),
        ("SIGRTMIN+15", "linux", None),
        ("SIGRTMAX-14", "linux", None),
        ("SIGWINCH", "linux", None),
    ],
)
def test_signals_that_a_system_does_not_have(by: str, os: str, why: str | None) -> None:
    """Objects that have one already are held to this rule; a new one's is dropped."""
    found = list(hooks("c", {"lifecycle": {"stopSignal": by}}, init=False, grace_s=30, os=os))
    assert [why in each.message for each in found] == [True] if why else not found


async def test_a_file_of_variables_lies_in_its_volume(lab: Lab) -> None:
    def reading(path: str) -> dict[str, Any]:
        source = {"fileKeyRef": {"volumeName": "v", "path": path, "key": "K"}}
        return pod(
            containers=[{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": source}]}], volumes=[{"name": "v", "emptyDir": {}}]
        )

    field = "spec.containers[0].env[0].valueFrom.fileKeyRef.path"
    await assert_refused(lab, "pods", reading("/a"), field, "must be a relative path")
    await assert_refused(lab, "pods", reading("../a"), field, "must not contain '..'")
    await lab.create("pods", reading("a/b"))


async def test_other_kinds(lab: Lab) -> None:
    strategy = {"type": "Recreate", "rollingUpdate": {}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, "strategy": strategy}}
    await assert_refused(lab, "deployments.apps", deployment, "spec.strategy.rollingUpdate", "may not be specified when strategy")
    often = {"metadata": {"name": "d"}, "spec": {"nodeAllocatableUpdatePeriodSeconds": 9}}
    field = "spec.nodeAllocatableUpdatePeriodSeconds"
    await assert_refused(lab, "csidrivers.storage.k8s.io", often, field, "must be greater than or equal to 10 seconds")
    driver = {"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 2**32 + 1}]}}
    await assert_refused(lab, "csidrivers.storage.k8s.io", driver, "spec.tokenRequests[0].expirationSeconds", "larger than 2^32 seconds")
    target = {"type": "Utilization", "averageUtilization": 70}
    metric = {"type": "ContainerResource", "containerResource": {"name": "Invalid", "container": "c", "target": target}}
    scaler = {"metadata": {"name": "h"}, "spec": {"scaleTargetRef": {"kind": "Pod", "name": "p"}, "maxReplicas": 5, "metrics": [metric]}}
    field = "spec.metrics[0].containerResource.name"
    await assert_refused(lab, "horizontalpodautoscalers.autoscaling", scaler, field, "must be a standard resource for containers")
    queuing = {"queues": 512, "handSize": 8, "queueLengthLimit": 100}
    limited = {"limitResponse": {"type": "Queue", "queuing": queuing}}
    level = {"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": limited}}
    resource, field = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "spec.limited.limitResponse.queuing.handSize"
    await assert_refused(lab, resource, level, field, "required entropy bits of deckSize 512 and handSize 8 should not be greater than 60")


async def test_whom_a_webhook_is_asked_about_and_where(lab: Lab) -> None:
    def asked(**webhook: Any) -> dict[str, Any]:
        service = {"name": "s", "namespace": "n"}
        common = {"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"service": service}}
        return {"metadata": {"name": "w"}, "webhooks": [{**common, **webhook}]}

    resource = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    nothing = {"matchExpressions": [{"key": "a", "operator": "In"}]}
    for name in ("objectSelector", "namespaceSelector"):
        field = f"webhooks[0].{name}.matchExpressions[0].values"
        await assert_refused(lab, resource, asked(**{name: nothing}), field, "must be specified when `operator` is 'In' or 'NotIn'")
    nowhere = asked(clientConfig={"service": {"name": "s", "namespace": "n", "port": 0}})
    await assert_refused(lab, resource, nowhere, "webhooks[0].clientConfig.service.port", "port is not valid: must be between 1 and 65535")
    await lab.create(resource, asked(objectSelector={}, namespaceSelector={"matchLabels": {"a": "b"}}))


async def test_full_names_in_an_endpoint_slice(lab: Lab) -> None:
    def slice_(name: str) -> dict[str, Any]:
        return {"metadata": {"name": "s"}, "addressType": "FQDN", "endpoints": [{"addresses": [name]}]}

    resource, field = "endpointslices.discovery.k8s.io", "endpoints[0].addresses[0]"
    await assert_refused(lab, resource, slice_("example"), field, "should be a domain with at least two segments separated by dots")
    await assert_refused(lab, resource, slice_(f"{'a' * 64}.com"), field, "must be no more than 63")
    await assert_refused(lab, resource, slice_("hello@example.com"), field, "a lowercase RFC 1123 subdomain")
    await lab.create(resource, slice_("example.com."))


async def test_a_namespace_is_finalized_by_names_with_a_domain(lab: Lab) -> None:
    made = (await lab.create("namespaces", {"metadata": {"name": "n"}})).entry
    assert made is not None
    for name, why in (("Foo", "neither a standard finalizer name nor is it fully qualified"), ("", "name part must be non-empty")):
        with pytest.raises(ApiError, match=why) as caught:
            await lab.update("namespaces", {"metadata": {"name": "n"}, "spec": {"finalizers": [name]}}, "finalize")
        assert caught.value.details["causes"][0]["field"] == "spec.finalizers[0]"
    await lab.update("namespaces", {"metadata": {"name": "n"}, "spec": {"finalizers": ["example.com/x", "kubernetes"]}}, "finalize")


async def test_the_class_of_a_claim_stays_where_it_was_named(lab: Lab) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await lab.create("persistentvolumeclaims", {"metadata": {"name": "c", "annotations": {CLASS: "fast"}}, "spec": spec})
    for annotation, name in (("slow", None), (None, "slow"), ("slow", "fast")):
        with pytest.raises(ApiError, match="annotations.volume.beta.kubernetes.io/storage-class: Invalid value"):
            await lab.patch(
                "persistentvolumeclaims", "c", {"metadata": {"annotations": {CLASS: annotation}}, "spec": {"storageClassName": name}}
            )
    await lab.patch("persistentvolumeclaims", "c", {"metadata": {"annotations": {CLASS: None}}, "spec": {"storageClassName": "fast"}})


async def test_an_update_begins_no_deletion(lab: Lab) -> None:
    made = pod(nodeName="n")
    await lab.create("pods", made)
    for name, value in (("deletionTimestamp", "2026-01-01T00:00:00Z"), ("deletionGracePeriodSeconds", 3)):
        for subresource in ("", "status"):
            with pytest.raises(ApiError, match=f"metadata.{name}: Invalid value: .*: field is immutable"):
                await lab.patch("pods", "web", {"metadata": {name: value}}, subresource)
    await lab.delete("pods", "web", grace_period_seconds=30)
    leaving = lab.get("pods", "web")
    assert leaving is not None
    await lab.update("pods", leaving)
    with pytest.raises(ApiError, match="metadata.deletionGracePeriodSeconds: Invalid value: 3: field is immutable"):
        await lab.patch("pods", "web", {"metadata": {"deletionGracePeriodSeconds": 3}})
