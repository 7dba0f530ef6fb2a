"""All controllers and observers of a master, in the order in which they see a change."""

from __future__ import annotations

from labctl.controllers.aggregation import Aggregation
from labctl.controllers.autoscaling.autoscalers import Autoscalers
from labctl.controllers.clusterdns import ClusterDns
from labctl.controllers.cronjobs import CronJobs
from labctl.controllers.customresources import CustomKinds, CustomResources
from labctl.controllers.daemonsets import DaemonSets
from labctl.controllers.deployment.deployments import Deployments
from labctl.controllers.disruption import Disruption
from labctl.controllers.endpoints import Endpoints
from labctl.controllers.endpointslices import EndpointSlices
from labctl.controllers.evictions import Evictions
from labctl.controllers.garbage import Garbage
from labctl.controllers.job.jobs import Jobs
from labctl.controllers.leftovers import Leftovers
from labctl.controllers.loadbalancers import LoadBalancers
from labctl.controllers.migrations import Migrations
from labctl.controllers.mirroring import Mirroring
from labctl.controllers.namespaces import Namespaces
from labctl.controllers.nodes import Nodes
from labctl.controllers.podcertificates import PodCertificates
from labctl.controllers.policytypes import PolicyTypes
from labctl.controllers.quotas import Quotas
from labctl.controllers.replicasets import ReplicaSets
from labctl.controllers.replication import Replication
from labctl.controllers.serviceaccounts import ServiceAccounts
from labctl.controllers.settings import ControllerSettings
from labctl.controllers.statefulset.statefulsets import StatefulSets
from labctl.controllers.volumes.claims import Claims
from labctl.controllers.volumes.ephemeral import EphemeralVolumes
from labctl.controllers.volumes.persistentvolumes import PersistentVolumes
from labctl.controllers.volumes.protection import ClaimProtection
from labctl.reconcile.plan import Follower
from labctl.resources.elsewhere import Elsewhere, Nowhere
from labctl.resources.measures import MetricReader, NoMetrics
from labctl.resources.registry import Registry
from labctl.resources.schema.definitions import Schema
from labctl.resources.usage import NoUsage, UsageReader
from labctl.resources.webhooks import NoWebhooks, Webhooks


def builtin_controllers(
    registry: Registry,
    settings: ControllerSettings = ControllerSettings(),  # noqa: B008 - frozen
    webhooks: Webhooks = NoWebhooks(),  # noqa: B008 - it holds nothing
    usage: UsageReader = NoUsage(),  # noqa: B008 - it holds nothing
    schema: Schema | None = None,
    elsewhere: Elsewhere = Nowhere(),  # noqa: B008 - it holds nothing
    measures: MetricReader = NoMetrics(),  # noqa: B008 - it holds nothing
) -> list[Follower]:
    """Custom kinds come first, because all others may deal with them; then endpoints, so that nobody is sent to a pod that leaves. The scheduler is in a room of its own."""
    return [
        CustomKinds(registry, webhooks),
        Endpoints(),
        EndpointSlices(settings),
        Mirroring(settings),
        LoadBalancers(settings),
        ClusterDns(settings),
        Nodes(settings),
        Evictions(settings),
        Replication(settings),
        ReplicaSets(settings),
        Deployments(),
        DaemonSets(settings),
        StatefulSets(settings),
        Jobs(settings),
        CronJobs(),
        Disruption(registry),
        Autoscalers(registry, usage, measures),
        CustomResources(registry),
        Migrations(registry),
        EphemeralVolumes(),
        Claims(),
        PersistentVolumes(),
        ClaimProtection(),
        ServiceAccounts(settings),
        Aggregation(),
        PolicyTypes(registry, schema),
        PodCertificates(),
        Garbage(registry),
        Namespaces(registry, elsewhere),
        Quotas(registry),
        Leftovers(settings),
    ]
