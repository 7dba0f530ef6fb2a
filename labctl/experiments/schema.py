"""The form of an experiment's file, as types. file.py reads a file into them; check.py says what types alone can't.

Times are texts with a unit ("2s"), rates are texts ("200/s"). docs/experiments.md describes each field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?$")]
_Short = Annotated[str, msgspec.Meta(max_length=600)]
_Scalar = str | int | float | bool
_Quantity = _Short | int | float  # a number alone is refused later, with words on what to write


ACTIONS = ("rollout-restart", "drain", "uncordon", "scale", "apply", "delete")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    pass


class SteadyCondition(_Strict, frozen=True, kw_only=True):
    """One condition. It names a Service with `endpoints`, a workload with `ready`, `nodes`, or `without_failures` for a time."""

    service: _Short = ""
    endpoints: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    workload: _Short = ""  # deployment/web, deployment/other-namespace/web
    ready: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    nodes: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    without_failures: _Quantity = ""


class Load(_Strict, frozen=True, kw_only=True):
    """The requests that are sent. Either `service` or `url` is given."""

    service: _Short = ""  # web, other-namespace/web
    url: _Short = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    path: _Short = "/"
    protocol: Literal["", "http", "https", "tcp", "udp"] = ""  # empty: what the port's name and number say
    rate: _Quantity = "200/s"
    sources: Annotated[tuple[_Short, ...], msgspec.Meta(min_length=1, max_length=64)] = ("other minions",)
    keepalive: bool = False
    timeout: _Quantity = "1s"


class Step(_Strict, frozen=True, kw_only=True):
    """One step of the timeline: a fault or an action, at a time after the load began."""

    at: _Quantity
    fault: _Short = ""
    action: _Short = ""  # one of ACTIONS
    name: _Name | Literal[""] = ""
    target: _Short = ""
    peer: _Short = ""
    direction: Literal["", "both", "in", "out"] = ""
    parameters: Annotated[dict[_Short, _Scalar], msgspec.Meta(max_length=32)] = {}
    for_: _Quantity = ""
    replicas: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    manifests: Annotated[tuple[_Short | dict[str, Any], ...], msgspec.Meta(max_length=64)] = ()


class Threshold(_Strict, frozen=True, kw_only=True):
    """A hypothesis that is about some cells of the matrix only."""

    threshold: _Short
    when: Annotated[dict[_Short, _Scalar], msgspec.Meta(max_length=16)] = {}


class Spec(_Strict, frozen=True, kw_only=True):
    """The whole file, for one cell of its matrix."""

    apiVersion: Literal["", "labctl.internal/v1"] = ""
    kind: Literal["Experiment"] = "Experiment"
    name: _Name
    description: Annotated[str, msgspec.Meta(max_length=4_000)] = ""
    lab: Annotated[dict[_Short, _Scalar | dict[_Short, _Scalar]], msgspec.Meta(max_length=64)] = {}
    images: Annotated[tuple[_Short, ...], msgspec.Meta(max_length=32)] = ()
    manifests: Annotated[tuple[_Short | dict[str, Any], ...], msgspec.Meta(max_length=64)] = ()
    steady: Annotated[tuple[SteadyCondition, ...], msgspec.Meta(min_length=1, max_length=64)]
    steady_within: _Quantity = "60s"
    load: Load | None = None
    duration: _Quantity
    timeline: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=64)]
    hypothesis: Annotated[tuple[_Short | Threshold, ...], msgspec.Meta(max_length=64)] = ()
    repetitions: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 5
    matrix: Annotated[dict[_Short, tuple[_Scalar | dict[_Short, _Scalar], ...]], msgspec.Meta(max_length=8)] = {}
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 1
