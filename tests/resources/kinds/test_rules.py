"""Kubernetes' rules for kinds of its own, tried kind by kind: what it accepts, what it refuses and in which words, and what may change later."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import ApiError
from tests.resources.conftest import Lab, config, service

Object = dict[str, Any]
RBAC = ".rbac.authorization.k8s.io"
GI = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
HOST = {"hostPath": {"path": "/data"}}


def named(**parts: Any) -> Object:
    return {"metadata": {"name": "web"}, **parts}


def binding(kind: str, **subject: Any) -> Object:
    reference = {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"}
    return named(roleRef=reference, subjects=[{"kind": kind, **subject}])


def volume(**spec: Any) -> Object:
    return named(spec={"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec})


def claim(**spec: Any) -> Object:
    return named(spec={**GI, **spec})


def quota(hard: Object, **spec: Any) -> Object:
    return named(spec={"hard": hard, **spec})


def limits(type_: str, **item: Any) -> Object:
    return named(spec={"limits": [{"type": type_, **item}]})


def secret(type_: str, **data: str) -> Object:
    return named(type=type_, stringData=data)


def event(namespace: str, **parts: Any) -> Object:
    return named(involvedObject={"kind": "Pod", "name": "a", "namespace": namespace}, **parts)


def told(**parts: Any) -> Object:
    """An Event of events.k8s.io."""
    about = {"kind": "Pod", "name": "a", "namespace": "default"}
    return named(
        **{
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Normal",
            "reason": "A",
            "action": "B",
            "regarding": about,
            "reportingController": "example.com/c",
            "reportingInstance": "c-1",
            **parts,
        }
    )


def ingress(*, host: str = "", tls: Any = None, **path: Any) -> Object:
    said = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}}, **path}
    return named(spec={"rules": [{"host": host, "http": {"paths": [said]}}], **({"tls": tls} if tls else {})})


def class_of(**parameters: Any) -> Object:
    return named(spec={"controller": "example.com/a", "parameters": parameters})


def storage_class(**parts: Any) -> Object:
    return named(provisioner="example.com/a", **parts)


def terms(*wanted: Object) -> list[Object]:
    return [{"matchLabelExpressions": list(wanted)}]


def attachment(**source: Any) -> Object:
    return named(spec={"attacher": "a.example", "nodeName": "minion-1", "source": source})


def backed(**backend: Any) -> Object:
    return ingress(backend=backend)


def policy(**spec: Any) -> Object:
    """A ValidatingAdmissionPolicy that is right but for what is said."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]
    return named(spec={"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "true"}], **spec})


def validated(**validation: Any) -> Object:
    return policy(validations=[{"expression": "true", **validation}])


def audited(*annotations: tuple[str, str]) -> Object:
    return policy(auditAnnotations=[{"key": key, "valueExpression": text} for key, text in annotations])


def definition(*, conversion: Object | None = None, **version: Any) -> Object:
    names = {"plural": "widgets", "kind": "Widget"}
    said = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}, **version}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [said]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": {**spec, **({"conversion": conversion} if conversion else {})}}


def column(**parts: Any) -> Object:
    return definition(additionalPrinterColumns=[{"name": "a", "type": "string", "jsonPath": ".spec.a", **parts}])


def converted(*versions: str, **config: Any) -> Object:
    return definition(conversion={"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": list(versions)}})


def api_service(name: str, **spec: Any) -> Object:
    said = {"groupPriorityMinimum": 100, "versionPriority": 10, "service": {"name": "a", "namespace": "b"}}
    return {"metadata": {"name": name}, "spec": {**said, **spec}}


POLICY, BINDING = (f"{kind}.admissionregistration.k8s.io" for kind in ("validatingadmissionpolicies", "mutatingadmissionpolicybindings"))
CRD, APIS = "customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"
URL = "https://a.example/convert"
IN, CLASSES, STORAGE = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io", ".storage.k8s.io"
INLINE = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "a.example", "volumeHandle": "b"}}
SCOPE_ERROR = "unsupported scope applied to resource"
ACCEPTED: list[tuple[str, Object]] = [
    ("services", {**service(), "metadata": {"name": "9web"}}),
    ("services", service(type="NodePort", ports=[{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}])),
    ("services", service(trafficDistribution="PreferSameNode")),
    ("services", service(ports=[{"port": 80, "appProtocol": "kubernetes.io/h2c"}])),
    (f"rolebindings{RBAC}", binding("ServiceAccount", name="default")),
    ("resourcequotas", quota({"count/deployments.apps": "5", "example.com/gpu": "2"}, scopes=["NotTerminating"])),
    ("resourcequotas", quota({"requests.storage": "5Gi"}, scopes=["VolumeAttributesClass"])),
    ("limitranges", limits("example.com/disk", max={"example.com/gpu": "2"})),
    ("events", event("other", eventTime="2026-01-01T00:00:00.000000Z", reportingComponent="c", reportingInstance="c", action="A", reason="B")),
    ("secrets", secret("kubernetes.io/basic-auth", username="")),
    ("secrets", secret("kubernetes.io/dockerconfigjson", **{".dockerconfigjson": "{}"})),
    ("persistentvolumes", volume(csi={"driver": "csi.example.com", "volumeHandle": "a"}, volumeAttributesClassName="fast")),
    ("persistentvolumeclaims", claim(dataSource={"kind": "PersistentVolumeClaim", "name": "a"})),
]  # fmt: skip

ACCEPTED += [
    (IN, backed(service={"name": "9a", "port": {"name": "web"}})),
    (IN, backed(resource={"apiGroup": "example.com", "kind": "Bucket", "name": "a"})),
    (IN, ingress(host="*.example.com", tls=[{"hosts": ["*.example.com"], "secretName": "a"}])),
    (IN, ingress(path="", pathType="ImplementationSpecific")),
    (CLASSES, class_of(kind="ConfigMap", name="a")),
    (CLASSES, class_of(kind="ConfigMap", name="a", scope="Namespace", namespace="default")),
    (f"storageclasses{STORAGE}", storage_class(allowedTopologies=terms({"key": "zone", "values": ["a", "b"]}))),
    (f"volumeattachments{STORAGE}", attachment(inlineVolumeSpec=INLINE)),
]  # fmt: skip

REFUSED: list[tuple[str, Object, str]] = [
    # Services
    ("services", service(type="ExternalName", ports=[]), "spec.externalName: Required value"),
    (
        "services",
        service(type="ExternalName", externalName="a.example", clusterIP="10.247.0.9"),
        "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
    ),
    (
        "services",
        service(trafficDistribution="Far"),
        'spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"',
    ),
    (
        "services",
        service(allocateLoadBalancerNodePorts=False),
        "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
    ),
    (
        "services",
        service(externalTrafficPolicy="Local"),
        'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
    ),
    (
        "services",
        service(type="LoadBalancer", ports=[{"port": 10250}]),
        "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
    ),
    (
        "services",
        service(type="NodePort", ports=[{"name": "a", "port": 1, "nodePort": 30001}, {"name": "b", "port": 2, "nodePort": 30001}]),
        "spec.ports[1].nodePort: Duplicate value: 30001",
    ),
    (
        "services",
        service(clusterIP="10.247.0.9", clusterIPs=["10.247.0.9", "10.247.0.10"]),
        'spec.clusterIPs: Invalid value: ["10.247.0.9","10.247.0.10"]: may specify no more than one IP for each IP family',
    ),
    ("services", service(clusterIP="10.247.0.09"), 'spec.clusterIPs[0]: Invalid value: "10.247.0.09": must not have leading 0s'),
    ("services", service(ipFamilies=["IPv5"]), 'spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"'),
    (
        "services",
        service(ipFamilyPolicy="Many"),
        'spec.ipFamilyPolicy: Unsupported value: "Many": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"',
    ),
    ("services", service(ports=[{"port": 80, "appProtocol": "a b"}]), 'spec.ports[0].appProtocol: Invalid value: "a b": name part must'),
    (
        "services",
        service(type="LoadBalancer", loadBalancerSourceRanges=["10.1.2.3/8"]),
        'spec.loadBalancerSourceRanges[0]: Invalid value: "10.1.2.3/8": must not have bits set beyond the prefix length',
    ),
    # RBAC
    (f"clusterrolebindings{RBAC}", binding("ServiceAccount", name="default"), "subjects[0].namespace: Required value"),
    (f"rolebindings{RBAC}", binding("ServiceAccount", name="A"), 'subjects[0].name: Invalid value: "A": a lowercase RFC 1123 subdomain'),
    (
        f"rolebindings{RBAC}",
        {**binding("User", name="a"), "roleRef": {"kind": "Role", "name": "a/b", "apiGroup": "rbac.authorization.k8s.io"}},
        "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
    ),
    (
        f"clusterroles{RBAC}",
        named(aggregationRule={}),
        "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
    ),
    (
        f"clusterroles{RBAC}",
        named(aggregationRule={"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Like"}]}]}),
        'aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator',
    ),
    # quotas and ranges
    (
        "resourcequotas",
        quota({"foo": "1"}),
        '[spec.hard[foo]: Invalid value: "foo": must be a standard resource type or fully qualified, '
        'spec.hard[foo]: Invalid value: "foo": must be a standard resource for quota]',
    ),
    ("resourcequotas", quota({"pods": "1500m"}), 'spec.hard[pods]: Invalid value: "1500m": must be an integer'),
    (
        "resourcequotas",
        quota({"services": "1"}, scopes=["Terminating"]),
        f'spec.scopes: Invalid value: ["Terminating"]: {SCOPE_ERROR}',
    ),
    ("resourcequotas", quota({"cpu": "1"}, scopes=["BestEffort"]), f'spec.scopes: Invalid value: ["BestEffort"]: {SCOPE_ERROR}'),
    (
        "resourcequotas",
        quota({"pods": "1"}, scopeSelector={"matchExpressions": [{"operator": "Exists"}]}),
        "spec.scopeSelector.matchExpressions.scopeName: Required value",
    ),
    ("limitranges", limits("Node"), 'spec.limits[0].type: Invalid value: "Node": must be a standard limit type or fully qualified'),
    (
        "limitranges",
        limits("PersistentVolumeClaim"),
        "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
    ),
    (
        "limitranges",
        limits("Container", max={"storage": "1Gi"}),
        'spec.limits[0].max[storage]: Invalid value: "storage": must be a standard resource for containers',
    ),
    (
        "limitranges",
        limits("Pod", min={"cpu": "1"}, max={"cpu": "2"}, maxLimitRequestRatio={"cpu": "3"}),
        'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000',
    ),
    (
        "limitranges",
        limits("Container", min={"cpu": "1"}, defaultRequest={"cpu": "500m"}),
        'spec.limits[0].defaultRequest[cpu]: Invalid value: "500m": min value 1 is greater than default request value 500m',
    ),
    (
        "limitranges",
        limits("Container", default={"example.com/gpu": "2"}, defaultRequest={"example.com/gpu": "1"}),
        'spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: "1": '
        "default value 2 must equal to defaultRequest value 1 in example.com/gpu",
    ),
    # volumes
    ("persistentvolumes", volume(**HOST, accessModes=[]), "spec.accessModes: Required value"),
    (
        "persistentvolumes",
        volume(**HOST, accessModes=["ReadWriteOncePod", "ReadWriteOnce"]),
        "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
    ),
    ("persistentvolumes", volume(**HOST, storageClassName="A"), 'spec.storageClassName: Invalid value: "A": a lowercase RFC 1123'),
    ("persistentvolumes", volume(**HOST, nodeAffinity={}), "spec.nodeAffinity.required: Required value: must specify required node"),
    (
        "persistentvolumes",
        volume(local={"path": "/a"}, nodeAffinity={"required": {"nodeSelectorTerms": []}}),
        "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term",
    ),
    (
        "persistentvolumes",
        volume(hostPath={"path": "/"}, persistentVolumeReclaimPolicy="Recycle"),
        "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
    ),
    ("persistentvolumes", volume(csi={"driver": "a.example"}), "spec.csi.volumeHandle: Required value"),
    ("persistentvolumes", volume(iscsi={"targetPortal": "a", "iqn": "b", "lun": 0}), 'spec.iscsi.iqn: Invalid value: "b": must be valid'),
    ("persistentvolumes", volume(**HOST, volumeAttributesClassName="fast"), "spec.csi: Required value: has to be specified when using"),
    ("persistentvolumeclaims", claim(resources={}), "spec.resources[storage]: Required value"),
    ("persistentvolumeclaims", claim(volumeMode="Tape"), 'spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"'),
    ("persistentvolumeclaims", claim(selector={"matchLabels": {"a": "b c"}}), 'spec.selector.matchLabels: Invalid value: "b c"'),
    (
        "persistentvolumeclaims",
        claim(dataSource={"kind": "Image", "name": "a"}),
        "spec.dataSource: Invalid value: \"Image\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
    ),
    (
        "persistentvolumeclaims",
        claim(dataSource={"apiGroup": "a.example", "kind": "B", "name": "c"}, dataSourceRef={"apiGroup": "a.example", "kind": "B", "name": "d"}),
        'spec: Invalid value: "spec.dataSource": must match dataSourceRef',
    ),
    # Events
    ("events", event("default", eventTime="2026-01-01T00:00:00.000000Z"), "reportingComponent: Required value"),
    ("events.events.k8s.io", told(deprecatedCount=2), 'count: Invalid value: "": needs to be unset'),
    ("events.events.k8s.io", told(type="Odd"), 'type: Invalid value: "": has invalid value: Odd'),
    ("events.events.k8s.io", told(series={"count": 1}), 'series.count: Invalid value: "": should be at least 2'),
    ("events.events.k8s.io", told(reportingController="a b"), 'reportingController: Invalid value: "a b": name part must consist'),
]  # fmt: skip

REFUSED += [
    (IN, backed(), 'spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required'),
    (IN, backed(service={"name": "a"}), "spec.rules[0].http.paths[0].backend: Required value: port name or number is required"),
    (IN, backed(resource={"kind": "Bucket"}), "spec.rules[0].http.paths[0].backend.resource.name: Required value: name is required"),
    (IN, ingress(path="/a//b"), "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"),
    (IN, ingress(path="/a/.."), "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'"),
    (IN, ingress(host="10.1.1.1"), 'spec.rules[0].host: Invalid value: "10.1.1.1": must be a DNS name, not an IP address'),
    (IN, ingress(host="a.*.example"), "spec.rules[0].host: Invalid value: \"a.*.example\": a wildcard DNS-1123 subdomain must start with '*.'"),
    (IN, ingress(tls=[{"hosts": ["A"]}]), 'spec.tls[0].hosts[0]: Invalid value: "A": a lowercase RFC 1123 subdomain'),
    (IN, ingress(tls=[{"secretName": "A"}]), 'spec.tls[0].secretName: Invalid value: "A": a lowercase RFC 1123 subdomain'),
    (CLASSES, named(spec={"controller": "example.com/a b"}), 'spec.controller: Invalid value: "a b": Invalid path'),
    (CLASSES, class_of(name="a"), "spec.parameters.kind: Required value: kind is required"),
    (CLASSES, class_of(kind="A", name="a", scope="Namespace"), "spec.parameters.namespace: Required value: `parameters.scope` is set to"),
    (CLASSES, class_of(kind="A", name="a", namespace="b"), "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"),
    (f"storageclasses{STORAGE}", storage_class(parameters={"": "a"}), 'parameters: Invalid value: "": field can not be empty.'),
    (f"storageclasses{STORAGE}", storage_class(parameters={"a": "b" * 262_144}), "parameters: Too long: may not be more than 262144 bytes"),
    (
        f"storageclasses{STORAGE}",
        storage_class(allowedTopologies=terms({"key": "a"})),
        "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
    ),
    (
        f"storageclasses{STORAGE}",
        storage_class(allowedTopologies=terms({"key": "a", "values": ["b"]}) * 2),
        'allowedTopologies[1].matchLabelExpressions: Duplicate value: ""',
    ),
    (f"csistoragecapacities{STORAGE}", named(), 'storageClassName: Invalid value: "": a lowercase RFC 1123 subdomain'),
    (
        f"csistoragecapacities{STORAGE}",
        named(storageClassName="a", nodeTopology={"matchExpressions": [{"key": "a", "operator": "Like"}]}),
        'nodeTopology.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator',
    ),
    (
        f"csinodes{STORAGE}",
        named(spec={"drivers": [{"name": "a", "nodeID": "b" * 193}]}),
        f'spec.drivers[0].nodeID: Invalid value: "{"b" * 193}": must be 192 characters or less',
    ),
    (
        f"csinodes{STORAGE}",
        named(spec={"drivers": [{"name": "a", "nodeID": "b", "topologyKeys": ["c", "c"]}]}),
        'spec.drivers[0].topologyKeys: Duplicate value: "c"',
    ),
    (
        f"volumeattachments{STORAGE}",
        attachment(persistentVolumeName=""),
        "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
    ),
    (
        f"volumeattachments{STORAGE}",
        attachment(inlineVolumeSpec={**INLINE, "storageClassName": "a"}),
        "spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes",
    ),
    (
        f"volumeattachments{STORAGE}",
        attachment(inlineVolumeSpec={"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"}}),
        "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
    ),
]  # fmt: skip

ACCEPTED += [
    (POLICY, audited(("who", "'a'"))),
    (POLICY, policy(paramKind={"apiVersion": "example.com/v1", "kind": "Limit"})),
    (POLICY, policy(variables=[{"name": "a", "expression": "1"}])),
    (CRD, column(type="integer", format="int64")),
    (CRD, converted("v2", "v1beta1", url=URL)),
]
REFUSED += [
    (POLICY, validated(message=" "), 'spec.validations[0].message: Invalid value: " ": message must be non-empty if specified'),
    (POLICY, validated(message="a\rb"), 'spec.validations[0].message: Invalid value: "a\\rb": message must not contain line breaks'),
    (POLICY, validated(messageExpression=" "), 'spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified'),
    (
        POLICY,
        validated(messageExpression="string(authorizer.path('/').check('get').allowed())"),
        "spec.validations[0].messageExpression: Invalid value",
    ),
    (POLICY, validated(expression=" "), "spec.validations[0].expression: Required value: expression is not specified"),
    (
        POLICY,
        validated(reason="Unauthorized"),
        'spec.validations[0].reason: Unsupported value: "Unauthorized": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"',
    ),
    (POLICY, audited(("a b", "'a'")), 'spec.auditAnnotations[0].key: Invalid value: "a b": name part must consist of'),
    (POLICY, audited(("a", "")), "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified"),
    (POLICY, audited(("a", "'a'"), ("a", "'b'")), 'spec.auditAnnotations[1].key: Duplicate value: "a"'),
    (POLICY, audited(*((f"a{n}", "'a'") for n in range(21))), "spec.auditAnnotations: Invalid value: "),
    (
        POLICY,
        policy(paramKind={"apiVersion": "a/b/c", "kind": "A"}),
        'spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c',
    ),
    (
        POLICY,
        policy(paramKind={"apiVersion": "v1", "kind": "a b"}),
        'spec.paramKind.kind: Invalid value: "a b": may have mixed case, but should otherwise match: a DNS-1035 label',
    ),
    (POLICY, policy(variables=[{"name": "for", "expression": "1"}]), 'spec.variables[0].name: Invalid value: "for": name is not a valid CEL'),
    (BINDING, named(spec={"policyName": "A"}), 'spec.policyName: Invalid value: "A": a lowercase RFC 1123 subdomain'),
    (
        CRD,
        column(format="int8"),
        "spec.versions[0].additionalPrinterColumns[0].format: Invalid value: "
        '"int8": must be one of byte,date,date-time,double,float,int32,int64,password',
    ),
    (CRD, column(type=""), "spec.versions[0].additionalPrinterColumns[0].type: Required value: must be one of boolean,date,integer,number,string"),
    (CRD, column(jsonPath=""), "spec.versions[0].additionalPrinterColumns[0].JSONPath: Required value"),
    (CRD, converted("v2", url=URL), 'spec.conversion.conversionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1'),
    (CRD, converted("v1", "v1", url=URL), 'spec.conversion.conversionReviewVersions[1]: Invalid value: "v1": duplicate version'),
    (CRD, converted("v1", url="http://a.example"), 'spec.conversion.webhookClientConfig.url: Invalid value: "http": '),
    (APIS, api_service("1a.example.com", group="example.com", version="1a"), 'spec.version: Invalid value: "1a": a DNS-1035 label'),
    (
        APIS,
        api_service("x", group="example.com", version="v1"),
        'metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.example.com"',
    ),
]  # fmt: skip

MAY_CHANGE: list[tuple[str, Object, Object]] = [
    (
        "services",
        service(type="LoadBalancer", loadBalancerClass="example.com/a"),
        {"spec": {"type": "ClusterIP"}},
    ),
    ("services", service(), {"spec": {"type": "ExternalName", "externalName": "a.example"}}),
    ("resourcequotas", quota({"pods": "1"}, scopes=["NotBestEffort", "NotTerminating"]), {"spec": {"scopes": ["NotTerminating", "NotBestEffort"]}}),
    ("persistentvolumes", volume(csi={"driver": "a", "volumeHandle": "b"}), {"spec": {"csi": {"controllerExpandSecretRef": {"name": "a", "namespace": "b"}}}}),
    ("persistentvolumes", volume(**HOST), {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}}),
]  # fmt: skip

MAY_NOT_CHANGE: list[tuple[str, Object, Object, str]] = [
    ("persistentvolumes", volume(**HOST), {"spec": {"volumeMode": "Block"}}, 'volumeMode: Invalid value: "Block": field is immutable'),
    ("persistentvolumes", volume(**HOST), {"spec": {"hostPath": {"path": "/b"}}}, "spec.persistentvolumesource: Forbidden"),
    ("persistentvolumeclaims", claim(), {"spec": {"resources": {"limits": {"storage": "2Gi"}}}}, "spec: Forbidden: spec is immutable"),
    ("persistentvolumeclaims", claim(), {"spec": {"volumeMode": "Block"}}, 'volumeMode: Invalid value: "Block": field is immutable'),
    ("events.events.k8s.io", told(), {"reason": "Other"}, 'reason: Invalid value: "Other": field is immutable'),
    ("services", service(type="LoadBalancer"), {"spec": {"loadBalancerClass": "example.com/a"}}, "may not change once set"),
    (
        "services",
        service(),
        {"spec": {"type": "ExternalName", "externalName": "a.example", "clusterIP": "10.247.0.77"}},
        "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
    ),
]


def ids(rows: list[Any]) -> list[str]:
    return [f"{row[0].partition('.')[0]}-{str(row[-1])[:60]}" for row in rows]


@pytest.mark.parametrize(("resource", "body"), ACCEPTED, ids=ids(ACCEPTED))
async def test_accepted(lab: Lab, resource: str, body: Object) -> None:
    await lab.create(resource, body)


@pytest.mark.parametrize(("resource", "body", "words"), REFUSED, ids=ids(REFUSED))
async def test_refused(lab: Lab, resource: str, body: Object, words: str) -> None:
    error = await lab.refused(resource, body)
    assert (error.code, error.reason) == (422, "Invalid")
    said = error.message.partition(" is invalid: ")[2]
    assert said.removeprefix("" if words.startswith("[") else "[").startswith(words)


@pytest.mark.parametrize(("resource", "body", "patch"), MAY_CHANGE, ids=ids(MAY_CHANGE))
async def test_what_may_change(lab: Lab, resource: str, body: Object, patch: Object) -> None:
    await lab.create(resource, body)
    await lab.patch(resource, "web", patch)


@pytest.mark.parametrize(("resource", "body", "patch", "words"), MAY_NOT_CHANGE, ids=ids(MAY_NOT_CHANGE))
async def test_what_may_not_change(lab: Lab, resource: str, body: Object, patch: Object, words: str) -> None:
    await lab.create(resource, body)
    with pytest.raises(ApiError) as caught:
        await lab.patch(resource, "web", patch)
    assert caught.value.code == 422
    assert words in caught.value.message


async def test_a_port_of_two_protocols_has_one_node_port(lab: Lab) -> None:
    await lab.create("services", service(type="NodePort", ports=[{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}]))
    ports = (lab.get("services", "web") or {})["spec"]["ports"]
    assert ports[0]["nodePort"] == ports[1]["nodePort"]


async def test_a_service_keeps_nothing_that_its_new_type_has_no_use_for(lab: Lab) -> None:
    await lab.create("services", service(type="LoadBalancer", loadBalancerClass="example.com/a", externalTrafficPolicy="Local"))
    await lab.patch("services", "web", {"spec": {"type": "ClusterIP"}})
    spec = (lab.get("services", "web") or {})["spec"]
    gone = ("loadBalancerClass", "allocateLoadBalancerNodePorts", "externalTrafficPolicy", "healthCheckNodePort")
    assert not [name for name in gone if name in spec] and "nodePort" not in spec["ports"][0]


async def test_a_claim_names_its_source_of_data_both_ways(lab: Lab) -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "a"}
    await lab.create("persistentvolumeclaims", claim(dataSource=source))
    assert (lab.get("persistentvolumeclaims", "web") or {})["spec"]["dataSourceRef"] == source


async def test_a_claim_that_could_not_grow_may_take_its_wish_back(lab: Lab) -> None:
    await lab.create("persistentvolumeclaims", claim(resources={"requests": {"storage": "3Gi"}}, volumeName="a"))
    await lab.patch("persistentvolumeclaims", "web", {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}, "status")
    await lab.patch("persistentvolumeclaims", "web", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    with pytest.raises(ApiError, match="field can not be less than status.capacity"):
        await lab.patch("persistentvolumeclaims", "web", {"spec": {"resources": {"requests": {"storage": "1Gi"}}}})


async def test_a_config_map_may_be_empty(lab: Lab) -> None:
    await lab.create("configmaps", config())
