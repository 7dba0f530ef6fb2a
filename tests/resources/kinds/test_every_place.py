"""Each place of a body of each kind, with something odd in it: the body is taken or refused with a Status, whatever way it comes, and what is taken can be shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from labctl.admission.builtin import builtin_admission
from labctl.errors import ApiError
from labctl.resources.bootstrap import BootstrapSettings, ensure_bootstrap
from labctl.resources.kind import Kind, Object
from labctl.resources.rbac.holders import Rbac
from labctl.resources.registry import builtin_registry
from labctl.resources.service import DeleteOptions, WriteOptions, WriteResult
from labctl.resources.verbs.match import supported_fields
from tests.resources.conftest import PERSON, Lab
from tests.resources.kinds.bodies import DROPPED, ODD, bodies, changed, places

KINDS = {(kind.api_version, kind.kind): kind for kind in builtin_registry().all_served() if kind.persisted}
AT_ONE_PLACE = 1  # of ODD, drawn for each place; and the place left out
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml")


@asynccontextmanager
async def whole() -> AsyncIterator[Lab]:
    """A lab with all steps of admission."""
    lab = Lab()
    lab.resources.use_admission(builtin_admission(lab.client, lab.clock, Rbac(lab.resources)))
    await ensure_bootstrap(lab.client, BootstrapSettings(address="10.245.1.1"))
    yield lab
    await lab.store.close()


def test_there_is_a_body_of_each_kind() -> None:
    assert set(bodies()) == set(KINDS)


@pytest.mark.parametrize("named", sorted(KINDS), ids="/".join)
def test_it_is_taken_or_refused(named: tuple[str, str]) -> None:
    asyncio.run(_play(KINDS[named], bodies()[named], Random(str(named))))


async def _play(kind: Kind, body: Object, rng: Random) -> None:
    namespace, name = "default" if kind.namespaced else "", body["metadata"]["name"]
    async with whole() as lab:
        resources, dry = lab.resources, WriteOptions(user=PERSON, dry_run=True, field_manager="me", force=True)
        assert (await resources.create(kind, namespace, raw(body), WriteOptions(user=PERSON))).created
        for place in places(body):
            for odd in (DROPPED, *rng.sample(ODD[1:], AT_ONE_PLACE)):
                wrong = changed(body, place, odd)
                another = json.loads(json.dumps(wrong).replace(json.dumps(name), '"another"')) if name == "x" else wrong
                what = f"{odd!r} at {place}"
                await taken_or_refused(
                    lab, kind, f"create: {what}", resources.create(kind, namespace, raw(another), WriteOptions(user=PERSON))
                )
                await gone(lab, kind, namespace, "another")
                for part in ("", "status") if any(one.name == "status" for one in kind.subresources) else ("",):
                    update = resources.update(kind, namespace, name, raw(wrong), dry, part)
                    await taken_or_refused(lab, kind, f"update {part}: {what}", update)
                form = rng.choice(PATCHES)
                await taken_or_refused(lab, kind, f"{form}: {what}", resources.patch(kind, namespace, name, raw(wrong), form, dry))


async def taken_or_refused(lab: Lab, kind: Kind, what: str, deed: Awaitable[WriteResult]) -> None:
    try:
        entry = (await deed).entry
    except ApiError as error:
        assert 400 <= error.code < 500, (what, error)
        return
    except Exception as error:
        raise AssertionError(what) from error
    (shown,) = await lab.resources.converted(kind, [entry])
    view = lab.resources.view(shown)
    cells = [column.cell(view, lab.clock.wall()) for column in kind.columns]
    assert all(isinstance(cell, (str, int)) for cell in cells), (what, cells)
    assert set(kind.fields(lab.resources.view(entry))) <= set(supported_fields(kind)), what


async def gone(lab: Lab, kind: Kind, namespace: str, name: str) -> None:
    """What was made goes again, whatever its finalizers."""
    try:
        await lab.resources.delete(kind, namespace, name, DeleteOptions(grace_period_seconds=0), PERSON)
        nothing: Any = {"metadata": {"finalizers": None}}
        await lab.resources.patch(kind, namespace, name, nothing, PATCHES[0], WriteOptions(user=PERSON))
    except ApiError:
        pass


def raw(body: Object) -> bytes:
    return json.dumps(body).encode()
