"""CronJob: creates a Job at each time that a cron expression names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import msgspec

from labctl.decoding import from_json
from labctl.resources import fields
from labctl.resources.cells import AGE, NAME, joined, since
from labctl.resources.kind import Column, FieldError, Kind, Object, Subresource, TypeDefaults, Viewed
from labctl.resources.kinds import workloads
from labctl.resources.kinds.batch_v1 import job, job_rules
from labctl.resources.kinds.core_v1 import pod_warnings
from labctl.resources.kinds.core_v1.pod_acts import acts_on
from labctl.resources.kinds.core_v1.pod_view import PodTemplate
from labctl.resources.kinds.shared import ObjectReference
from labctl.resources.schedules import Schedule, refuse_unusual

_POLICIES = ("Allow", "Forbid", "Replace")
_MAX_NAME = 52  # a Job's name adds eleven characters, and 63 is the most that a label holds
_ZONE = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+){0,2}")


class JobTemplate(msgspec.Struct, frozen=True, rename="camel", gc=False):
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    spec: msgspec.Raw = msgspec.Raw(b"{}")


class CronJobSpec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    schedule: str = ""
    time_zone: str | None = None
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = "Allow"
    suspend: bool = False
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None
    job_template: JobTemplate = JobTemplate()

    def pod_template(self) -> PodTemplate:
        return from_json(self.job_template.spec, job.JobSpec).pod_template()


class CronJobStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    active: tuple[ObjectReference, ...] = ()
    last_schedule_time: str | None = None
    last_successful_time: str | None = None


class CronJob(Viewed, frozen=True, rename="camel", gc=False):
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()


def prepare(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None) -> Iterator[FieldError]:
    spec = new.get("spec", {})
    if old is None and len(new["metadata"].get("name", "")) > _MAX_NAME:
        yield fields.invalid("metadata.name", new["metadata"]["name"], f"must be no more than {_MAX_NAME} characters")
    yield from workloads.not_negative("spec", spec, "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy not in _POLICIES:
        yield fields.not_supported("spec.concurrencyPolicy", policy, _POLICIES)
    yield from _times(spec, old)
    template = spec.get("jobTemplate", {}).get("spec")
    if template is None:
        yield fields.required("spec.jobTemplate.spec")
    elif old is None or spec != old["spec"]:
        if template.get("selector") is not None:
            yield fields.invalid("spec.jobTemplate.spec.selector", template["selector"], "`selector` will be auto-generated")
        if template.get("manualSelector"):
            yield fields.not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
        yield from job_rules.rules("spec.jobTemplate.spec", template)


def _times(spec: Object, old: Object | None) -> Iterator[FieldError]:
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        yield fields.required("spec.schedule")
    elif "TZ" in schedule:
        yield fields.invalid("spec.schedule", schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
    else:
        try:
            refuse_unusual(schedule)
            Schedule(schedule)
        except ValueError as error:
            yield fields.invalid("spec.schedule", schedule, str(error))
    if zone is None or (old is not None and old["spec"].get("timeZone") == zone):
        return
    if not zone:
        yield fields.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
    elif zone.lower() == "local":
        why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        yield fields.invalid("spec.timeZone", zone, why)
    elif not _known(zone):
        yield fields.invalid("spec.timeZone", zone, f"unknown time zone {zone}")


def _known(zone: str) -> bool:
    try:
        return bool(_ZONE.fullmatch(zone)) and ZoneInfo(zone) is not None
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return False


def _spec_defaults(spec: Object) -> None:
    spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    if old is None:
        yield from pod_warnings.of_name(new["metadata"].get("name", ""))
    spec = new.get("spec") or {}
    if old is None or spec != old["spec"]:
        yield from job.spec_warnings("spec.jobTemplate.spec", (spec.get("jobTemplate") or {}).get("spec") or {})


COLUMNS: tuple[Column, ...] = (
    NAME,
    Column("Schedule", lambda view, _now: view.spec.schedule, description="When it makes a Job."),
    Column("Timezone", lambda view, _now: view.spec.time_zone or "<none>", description="Whose clock that is."),
    Column(
        "Suspend", lambda view, _now: "True" if view.spec.suspend else "False", type="boolean", description="Whether it makes none for now."
    ),
    Column("Active", lambda view, _now: len(view.status.active), type="integer", description="How many of its Jobs run."),
    Column(
        "Last Schedule",
        lambda v, now: since(v.status.last_schedule_time, now) if v.status.last_schedule_time else "<none>",
        description="Its last time.",
    ),
    AGE,
    Column(
        "Containers",
        lambda v, _now: joined(c.name for c in v.spec.pod_template().spec.containers),
        priority=1,
        description="Names of containers.",
    ),
    Column(
        "Images",
        lambda v, _now: joined(c.image for c in v.spec.pod_template().spec.containers),
        priority=1,
        description="Images of containers.",
    ),
    Column("Selector", lambda _view, _now: "<none>", priority=1, description="A CronJob has none."),
)

_ACTS_ON = (
    "concurrencyPolicy",
    "failedJobsHistoryLimit",
    "jobTemplate.metadata",
    "schedule",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "suspend",
    "timeZone",
    *(f"jobTemplate.spec.{name}" for name in job.SPEC_ACTS_ON),
)

KIND = Kind(
    group="batch",
    version="v1",
    kind="CronJob",
    plural="cronjobs",
    singular="cronjob",
    namespaced=True,
    view=CronJob,
    short_names=("cj",),
    categories=("all",),
    columns=COLUMNS,
    subresources=(Subresource("status", ("get", "patch", "update")),),
    has_status=True,
    has_generation=True,
    prepare=prepare,
    validate=validate,
    warnings=warnings,
    acts_on=acts_on("spec.jobTemplate.spec.template.spec") | {f"spec.{name}" for name in _ACTS_ON},
    type_defaults={**job.TYPES, "io.k8s.api.batch.v1.CronJobSpec": TypeDefaults(function=_spec_defaults)},
)
