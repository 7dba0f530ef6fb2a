"""Kinds come, change and go while a master runs, in several versions of which one is stored; everything that reads the Registry follows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from labctl.errors import ApiError
from labctl.resources.cells import AGE, NAME
from labctl.resources.generic import GenericObject
from labctl.resources.kind import Column, Kind, Object, ScalePaths, Subresource
from labctl.resources.kinds import own
from labctl.resources.kinds.own import INT32, STRING
from labctl.resources.registry import KindChange, Registry, builtin_registry, version_rank
from labctl.resources.service import ListOptions, WriteOptions
from labctl.resources.verbs.versions import NoneConversion
from tests.resources.conftest import Lab

GROUP = "example.com"


def definitions(version: str) -> dict[str, Any]:
    name = f"com.example.{version}.Cat"
    spec = own.struct(lives=INT32, color=STRING)
    return own.top_level(name, GROUP, version, spec=spec, status=own.struct(lives=INT32))


def cat(version: str = "v1", **more: Any) -> Kind:
    kind = Kind(GROUP, version, "Cat", "cats", "cat", True, GenericObject, definitions=definitions(version))
    return replace(kind, has_status=True, **more)


def family(stored: str = "v1") -> tuple[Kind, Kind]:
    """v1 and v1beta1, alike but for their names; one of them is stored."""
    names = NoneConversion()
    first = cat(stored, conversion=names)
    return first, cat("v1beta1" if stored == "v1" else "v1", conversion=names, storage=first)


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.resources.registry.add(*family())
    return lab


def tom(**spec: Any) -> Object:
    return {"metadata": {"name": "tom", "namespace": "default"}, "spec": spec or {"lives": 9}}


# -- the registry ----------------------------------------------------------------------------------------------------


def test_listeners_hear_of_every_change_in_order() -> None:
    registry, heard = builtin_registry(), list[KindChange]()
    ending = registry.listen(heard.append)
    before = registry.generation
    first, other, second = cat(), cat(short_names=("c",)), cat("v2")
    registry.add(first)
    registry.replace(other, replace(second, storage=other))
    registry.remove("cats.example.com")
    assert [(len(change.old), len(change.new)) for change in heard] == [(0, 1), (1, 2), (2, 0)]
    assert {change.resource for change in heard} == {"cats.example.com"} and registry.generation == before + 3
    ending()
    registry.add(first)
    assert len(heard) == 3


def test_iterating_gives_what_is_stored_and_clients_see_what_is_served() -> None:
    stored = cat(served=False)
    shown = cat("v1beta1", storage=stored)
    registry = Registry([shown, stored])
    assert list(registry) == [stored] and registry["cats.example.com"] is stored
    assert registry.all_served() == [shown] and registry.group_versions() == [(GROUP, "v1beta1")]
    assert registry.in_group(GROUP, "v1", "cats") is None and registry.in_group(GROUP, "v1beta1", "cats") is shown
    assert registry.of("example.com/v1beta1", "Cat") is shown
    assert shown.key("default", "tom") == stored.key("default", "tom") == "cats.example.com/default/tom"


def test_a_kind_of_another_group_may_be_stored_with_ours() -> None:
    stored = cat()
    alias = replace(cat(), group="cats.io", storage=stored)
    registry = Registry([alias, stored])
    assert alias.prefix("default") == "cats.example.com/default/" and registry.get("cats.cats.io") is None
    assert registry.in_group("cats.io", "v1", "cats") is alias


def test_versions_are_in_the_order_that_kubernetes_prefers() -> None:
    words = ["foo1", "v1alpha1", "v2", "v1beta2", "v10", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo10"]
    told = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v1beta2", "v12alpha1", "v11alpha2", "v1alpha1", "foo1", "foo10"]
    assert sorted(words, key=version_rank) == told


def test_one_resource_has_one_stored_version() -> None:
    with pytest.raises(AssertionError):
        Registry().add(cat(), cat("v2"))
    with pytest.raises(AssertionError):
        Registry([cat()]).add(cat())


# -- objects of several versions ---------------------------------------------------------------------------------------


async def shown(lab: Lab, kind: Kind, name: str = "tom") -> Object:
    (entry,) = await lab.resources.converted(kind, [lab.resources.get(kind, "default", name)])
    obj: Object = json.loads(entry.value)
    return obj


async def test_an_object_written_in_one_version_is_read_in_the_other(lab: Lab) -> None:
    v1, beta = lab.resources.registry.versions("cats.example.com")
    written = await lab.resources.create(beta, "default", tom())
    assert json.loads(written.entry.value)["apiVersion"] == "example.com/v1", "one version is stored"
    assert (await shown(lab, beta))["apiVersion"] == "example.com/v1beta1"
    assert (await shown(lab, v1))["spec"] == {"lives": 9}
    assert lab.client.get("cats.example.com", "default/tom").at("spec.lives") == 9


async def test_a_patch_sees_the_object_in_its_own_version(lab: Lab) -> None:
    v1, beta = lab.resources.registry.versions("cats.example.com")
    await lab.resources.create(v1, "default", tom())
    patch = [{"op": "test", "path": "/apiVersion", "value": "example.com/v1beta1"}, {"op": "add", "path": "/spec/color", "value": "grey"}]
    await lab.resources.patch(beta, "default", "tom", json.dumps(patch).encode(), "application/json-patch+json")
    assert (await shown(lab, v1))["spec"] == {"lives": 9, "color": "grey"}


async def test_a_body_of_another_version_than_the_url_is_refused(lab: Lab) -> None:
    v1, _ = lab.resources.registry.versions("cats.example.com")
    with pytest.raises(ApiError, match='Cat in version "v1beta1" cannot be handled as a Cat'):
        await lab.resources.create(v1, "default", {**tom(), "apiVersion": "example.com/v1beta1", "kind": "Cat"})


async def test_when_another_version_is_to_be_stored_an_empty_update_migrates(lab: Lab) -> None:
    registry = lab.resources.registry
    await lab.resources.create(registry["cats.example.com"], "default", tom())
    registry.replace(*family("v1beta1"))
    beta, v1 = registry.versions("cats.example.com")
    assert (await shown(lab, beta))["apiVersion"] == "example.com/v1beta1", "stored by v1, shown as asked"
    for kind in (v1, v1):
        written = await lab.resources.update(kind, "default", "tom", await shown(lab, kind))
    entry = lab.store.get("cats.example.com/default/tom")
    assert entry is not None and json.loads(entry.value)["apiVersion"] == "example.com/v1beta1"
    assert written.entry.revision == entry.revision == lab.store.revision, "the second update changed nothing and wrote nothing"


async def test_a_watch_shows_its_own_version(lab: Lab) -> None:
    v1, beta = lab.resources.registry.versions("cats.example.com")
    await lab.resources.create(v1, "default", tom())
    watching = lab.resources.watch(beta, "default", ListOptions())
    (there,) = await anext(watching)
    await lab.resources.delete(v1, "default", "tom")
    (gone,) = await anext(watching)
    await watching.aclose()
    assert [json.loads(event.entry.value)["apiVersion"] for event in (there, gone)] == ["example.com/v1beta1"] * 2
    assert gone.type == "DELETED"


async def test_a_conversion_that_renames_fields_works_in_both_directions(lab: Lab) -> None:
    class Renames:
        """v2 says `hue` where v1 says `color`."""

        def needed(self, kind: Kind, value: bytes) -> bool:
            return NoneConversion().needed(kind, value)

        async def convert(self, kind: Kind, objects: Sequence[Object]) -> Sequence[Object]:
            for obj in objects:
                spec, (old, new) = obj["spec"], ("color", "hue") if kind.version == "v2" else ("hue", "color")
                if old in spec:
                    spec[new] = spec.pop(old)
                obj["apiVersion"] = kind.api_version
            return objects

    first = cat(conversion=Renames())
    other = replace(cat("v2", storage=first, conversion=Renames()), definitions={})
    lab.resources.registry.replace(first, other)
    await lab.resources.create(other, "default", tom(hue="red"))
    assert (await shown(lab, first))["spec"] == {"color": "red"}
    await lab.resources.patch(other, "default", "tom", b'{"spec":{"hue":"blue"}}', "application/merge-patch+json")
    assert (await shown(lab, other))["spec"] == {"hue": "blue"} and (await shown(lab, first))["spec"] == {"color": "blue"}


# -- what follows --------------------------------------------------------------------------------------------------------


async def test_validation_follows(lab: Lab) -> None:
    registry = lab.resources.registry
    v1 = registry["cats.example.com"]
    with pytest.raises(ApiError, match='unknown field "spec.mood"'):
        await lab.resources.create(v1, "default", tom(mood="bad"), WriteOptions(field_validation="Strict"))
    moody = own.top_level("com.example.v1.Cat", GROUP, "v1", spec=own.struct(mood=STRING))
    registry.replace(replace(cat(), definitions=moody))
    await lab.resources.create(registry["cats.example.com"], "default", tom(mood="bad"))
    registry.remove("cats.example.com")
    assert "com.example.v1.Cat" not in lab.resources.schema.definitions
    assert not lab.resources.schema.name_of(GROUP, "v1", "Cat")


async def test_the_scale_subresource_reads_the_paths_of_the_kind(lab: Lab) -> None:
    paths = ScalePaths(lambda obj: obj["spec"].get("color", ""), "spec.lives", "status.lives")
    scaled = cat(scale=paths, subresources=(Subresource("scale", ("get", "patch", "update"), "Scale", "autoscaling", "v1"),))
    lab.resources.registry.replace(scaled)
    await lab.resources.create(scaled, "default", tom(lives=9, color="grey"))
    scale = json.loads(lab.resources.get(scaled, "default", "tom", "scale").value)
    assert scale["spec"] == {"replicas": 9} and scale["status"] == {"replicas": 0, "selector": "grey"}
    patch = {"spec": {"replicas": 3}}
    await lab.resources.patch(scaled, "default", "tom", patch, "application/merge-patch+json", subresource="scale")
    assert lab.client.get("cats.example.com", "default/tom").at("spec.lives") == 3


async def test_a_generic_object_is_read_by_path(lab: Lab) -> None:
    column = Column("Lives", lambda view, _now: view.at("spec.lives", 0))
    kind = cat(columns=(NAME, column, AGE), fields=lambda view: {"spec.color": view.at("spec.color", "")})
    lab.resources.registry.replace(kind)
    await lab.resources.create(kind, "default", tom(lives=7, color="grey"))
    view = lab.client.get("cats.example.com", "default/tom")
    assert (column.cell(view, 0.0), view.at("spec.none"), view.at("spec.lives.more", "no")) == (7, None, "no")
    assert lab.resources.registry.reference(view).kind == "Cat"
    listed = lab.resources.list(kind, "default", ListOptions(field_selector="spec.color=grey"))
    assert len(listed.entries) == 1
