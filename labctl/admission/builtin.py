"""The admission steps of every lab, in the order in which they are asked."""

from __future__ import annotations

from labctl import defaults
from labctl.admission.certificaterequests import CertificateRequests
from labctl.admission.defaultingressclass import DefaultIngressClass
from labctl.admission.defaulttolerationseconds import DefaultTolerationSeconds
from labctl.admission.deviceadminaccess import DeviceAdminAccess
from labctl.admission.eventratelimit import EventRateLimit
from labctl.admission.limitranger import LimitDefaults, LimitRanger
from labctl.admission.matching import EVERY_VERB
from labctl.admission.nodedeclaredfeatures import NodeDeclaredFeatures
from labctl.admission.noderestriction import NodeRestriction
from labctl.admission.nodewritelimit import NodeWriteLimit
from labctl.admission.podresize import PodResize
from labctl.admission.podsecurity.step import PodSecurity
from labctl.admission.podtopologylabels import PodTopologyLabels
from labctl.admission.priority import Priority
from labctl.admission.resourcequota import ResourceQuota
from labctl.admission.roleescalation import RoleEscalation
from labctl.admission.runtimeclass import RuntimeClass
from labctl.admission.serviceaccount import ServiceAccount
from labctl.admission.storage import DefaultStorageClass, PersistentVolumeClaimResize
from labctl.admission.whenthere import WhenThere
from labctl.clock import Clock
from labctl.resources.admission import Admission, AdmissionStep
from labctl.resources.client import Client
from labctl.resources.rbac.holders import Rbac
from labctl.resources.rbac.matching import Permissions
from labctl.resources.webhooks import NoWebhooks, Webhooks


def builtin_admission(
    client: Client,
    clock: Clock,
    rbac: Rbac | None = None,
    *,
    permissions: Permissions | None = None,
    evict_s: float = defaults.EVICT_S,
    webhooks: Webhooks = NoWebhooks(),  # noqa: B008 - it holds nothing
) -> Admission:
    """Return the admission steps of a lab, in their order. ResourceQuota comes last, so that it counts only writes that nothing else refuses.

    `permissions` are asked by expressions of policies and webhooks (`authorizer`); without them RBAC is.
    `evict_s` is how long a pod stays on a node that is not ready, if its author did not say.
    """
    rbac = rbac or Rbac(client.resources)
    permissions = permissions or rbac
    return Admission(
        mutating=(
            WhenThere("LimitRanger", client, "limitranges", lambda: LimitDefaults(client), LimitDefaults.kinds, LimitDefaults.verbs),
            ServiceAccount(client, client.resources.rng),
            RuntimeClass(client),
            Priority(client),
            DefaultTolerationSeconds(evict_s),
            PodTopologyLabels(client),
            DefaultIngressClass(client),
            DefaultStorageClass(client),
            CertificateRequests(rbac, clock),
            _mutations(client, permissions),
            _mutating_webhooks(client, webhooks, permissions),
        ),
        validating=(
            NodeRestriction(client),
            NodeDeclaredFeatures(client),
            PodResize(client),
            RoleEscalation(client, rbac),
            PodSecurity(client),
            EventRateLimit(clock),
            NodeWriteLimit(clock),
            WhenThere("LimitRanger", client, "limitranges", lambda: LimitRanger(client), LimitRanger.kinds, LimitRanger.verbs),
            PersistentVolumeClaimResize(client),
            DeviceAdminAccess(client),
            _policies(client, permissions),
            _validating_webhooks(client, webhooks, permissions),
            WhenThere("ResourceQuota", client, "resourcequotas", lambda: ResourceQuota(client), ResourceQuota.kinds, ResourceQuota.verbs),
        ),
    )


_GROUP = "admissionregistration.k8s.io"


def _policies(client: Client, permissions: Permissions) -> WhenThere:
    def make() -> AdmissionStep:
        from labctl.admission.policies import ValidatingPolicies

        return ValidatingPolicies(client, permissions)

    return WhenThere("ValidatingAdmissionPolicy", client, f"validatingadmissionpolicybindings.{_GROUP}", make, verbs=EVERY_VERB)


def _mutations(client: Client, permissions: Permissions) -> WhenThere:
    def make() -> AdmissionStep:
        from labctl.admission.mutations import MutatingPolicies

        return MutatingPolicies(client, permissions)

    return WhenThere("MutatingAdmissionPolicy", client, f"mutatingadmissionpolicybindings.{_GROUP}", make, verbs=EVERY_VERB)


def _mutating_webhooks(client: Client, webhooks: Webhooks, permissions: Permissions) -> WhenThere:
    def make() -> AdmissionStep:
        from labctl.admission.webhooks import MutatingWebhooks

        return MutatingWebhooks(client, webhooks, permissions)

    return WhenThere("MutatingAdmissionWebhook", client, f"mutatingwebhookconfigurations.{_GROUP}", make, verbs=EVERY_VERB)


def _validating_webhooks(client: Client, webhooks: Webhooks, permissions: Permissions) -> WhenThere:
    def make() -> AdmissionStep:
        from labctl.admission.webhooks import ValidatingWebhooks

        return ValidatingWebhooks(client, webhooks, permissions)

    return WhenThere("ValidatingAdmissionWebhook", client, f"validatingwebhookconfigurations.{_GROUP}", make, verbs=EVERY_VERB)
