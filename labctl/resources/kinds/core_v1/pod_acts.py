"""Which fields of a pod's spec labctl acts on: the scheduler, the controllers, the proxy and the agent together.

Each with everything below it. What stands in no line is stored as it was sent, and its author is told that nothing comes of it.
"""

from __future__ import annotations

_CONTAINER = (
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle.postStart",
    "lifecycle.preStop",
    "lifecycle.stopSignal",
    "name",
    "ports",
    "resources.limits.*/*",  # extended resources, whose requests are the same
    "resources.limits.cpu",
    "resources.limits.ephemeral-storage",
    "resources.limits.memory",
    "resources.claims",
    "resizePolicy",
    "resources.requests",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext.allowPrivilegeEscalation",
    "securityContext.capabilities",
    "securityContext.privileged",
    "securityContext.readOnlyRootFilesystem",
    "securityContext.runAsGroup",
    "securityContext.runAsNonRoot",
    "securityContext.runAsUser",
    "securityContext.seccompProfile.type",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeMounts.mountPath",
    "volumeMounts.mountPropagation",
    "volumeMounts.name",
    "volumeMounts.readOnly",
    "volumeMounts.recursiveReadOnly",
    "volumeMounts.subPath",
    "volumeMounts.subPathExpr",
    "workingDir",
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = (
    "exec",
    "failureThreshold",
    "grpc",
    "httpGet",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "tcpSocket",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
)


def _keys(volume: str, name: str) -> tuple[str, ...]:
    """Return the fields of a volume of a ConfigMap's or Secret's keys: all but their files' owners."""
    return tuple(f"{volume}.{field}" for field in (name, "optional", "defaultMode", "items.key", "items.mode", "items.path"))


def _fields_of_pod(volume: str) -> tuple[str, ...]:
    """Return the fields of a volume of the downward API: all but its files' owners."""
    return tuple(f"{volume}.{field}" for field in ("defaultMode", "items.fieldRef", "items.mode", "items.path", "items.resourceFieldRef"))


_POD = (
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "nodeName",
    "nodeSelector",
    "os",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources.limits.cpu",
    "resources.limits.memory",
    "resources.requests",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext.fsGroup",
    "securityContext.runAsGroup",
    "securityContext.runAsNonRoot",
    "securityContext.runAsUser",
    "securityContext.seccompProfile.type",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.sysctls",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    *_keys("volumes.configMap", "name"),
    *_fields_of_pod("volumes.downwardAPI"),
    "volumes.emptyDir.medium",
    "volumes.emptyDir.sizeLimit",
    "volumes.ephemeral",
    "volumes.hostPath",
    "volumes.image",
    "volumes.name",
    "volumes.nfs",
    "volumes.persistentVolumeClaim",
    "volumes.projected.defaultMode",
    *_keys("volumes.projected.sources.configMap", "name"),
    *_fields_of_pod("volumes.projected.sources.downwardAPI"),
    *_keys("volumes.projected.sources.secret", "name"),
    "volumes.projected.sources.clusterTrustBundle.labelSelector",
    "volumes.projected.sources.clusterTrustBundle.name",
    "volumes.projected.sources.clusterTrustBundle.optional",
    "volumes.projected.sources.clusterTrustBundle.path",
    "volumes.projected.sources.clusterTrustBundle.signerName",
    "volumes.projected.sources.podCertificate.certificateChainPath",
    "volumes.projected.sources.podCertificate.credentialBundlePath",
    "volumes.projected.sources.podCertificate.keyPath",
    "volumes.projected.sources.podCertificate.keyType",
    "volumes.projected.sources.podCertificate.maxExpirationSeconds",
    "volumes.projected.sources.podCertificate.signerName",
    "volumes.projected.sources.podCertificate.userAnnotations",
    "volumes.projected.sources.serviceAccountToken.audience",
    "volumes.projected.sources.serviceAccountToken.expirationSeconds",
    "volumes.projected.sources.serviceAccountToken.path",
    *_keys("volumes.secret", "secretName"),
)

POD_SPEC: tuple[str, ...] = (
    *_POD,
    *(f"{part}.{field}" for part in ("containers", "initContainers", "ephemeralContainers") for field in _CONTAINER),
    "ephemeralContainers.targetContainerName",
    *(f"{part}.{probe}.{field}" for part in ("containers", "initContainers") for probe in _PROBES for field in _PROBE),
)


def acts_on(prefix: str) -> frozenset[str]:
    """Return the paths below a spec: a pod's (`spec`) or a template's (`spec.template.spec`)."""
    return frozenset(f"{prefix}.{path}" for path in POD_SPEC)
