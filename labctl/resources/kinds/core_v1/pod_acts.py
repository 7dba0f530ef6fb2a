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
    "resources.limits.cpu",
    "resources.limits.memory",
    "resources.requests",
    "restartPolicy",
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
    "volumeMounts.name",
    "volumeMounts.readOnly",
    "volumeMounts.subPath",
    "volumeMounts.subPathExpr",
    "workingDir",
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = (
    "exec",
    "failureThreshold",
    "httpGet",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "tcpSocket",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
)
_POD = (
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostNetwork",
    "hostname",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
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
    "securityContext.sysctls",
    "serviceAccount",
    "serviceAccountName",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes.configMap",
    "volumes.downwardAPI",
    "volumes.emptyDir",
    "volumes.ephemeral",
    "volumes.hostPath",
    "volumes.name",
    "volumes.nfs",
    "volumes.persistentVolumeClaim",
    "volumes.projected",
    "volumes.secret",
)

POD_SPEC: tuple[str, ...] = (
    *_POD,
    *(f"{part}.{field}" for part in ("containers", "initContainers") for field in _CONTAINER),
    *(f"{part}.{probe}.{field}" for part in ("containers", "initContainers") for probe in _PROBES for field in _PROBE),
)


def acts_on(prefix: str) -> frozenset[str]:
    """The paths below a spec: a pod's (`spec`) or a template's (`spec.template.spec`)."""
    return frozenset(f"{prefix}.{path}" for path in POD_SPEC)
