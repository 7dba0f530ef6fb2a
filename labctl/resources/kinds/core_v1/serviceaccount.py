"""ServiceAccount: the identity of the programs in pods. The API signs tokens for it (subresource `token`), and RBAC says what they may do."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.resources.cells import AGE, NAME
from labctl.resources.kind import Column, Kind, Object, Subresource, Viewed
from labctl.resources.kinds.shared import NameReference


class ServiceAccount(Viewed, frozen=True, rename="camel", gc=False):
    secrets: tuple[NameReference, ...] = ()
    image_pull_secrets: tuple[NameReference, ...] = ()
    automount_service_account_token: bool | None = None


_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


def warnings(new: Object, old: Object | None) -> Iterator[str]:
    if _MOUNTABLE in (new["metadata"].get("annotations") or {}) and _MOUNTABLE not in (
        (old or {}).get("metadata", {}).get("annotations") or {}
    ):
        yield f"metadata.annotations[{_MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"


KIND = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    plural="serviceaccounts",
    singular="serviceaccount",
    namespaced=True,
    view=ServiceAccount,
    short_names=("sa",),
    warnings=warnings,
    columns=(NAME, Column("Secrets", lambda account, _now: len(account.secrets), description="How many Secrets it names."), AGE),
    subresources=(Subresource("token", ("create",), kind="TokenRequest", group="authentication.k8s.io", version="v1"),),
)
