"""Which volume a claim gets: the rules one by one, and what holds for any claims and volumes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.resources.kinds.core_v1.node import Node
from labctl.resources.kinds.core_v1.persistentvolume import PersistentVolume
from labctl.resources.kinds.core_v1.persistentvolumeclaim import PersistentVolumeClaim
from labctl.resources.kinds.storage_v1.storageclass import StorageClass
from labctl.resources.quantities import parse
from labctl.resources.volumes import belongs_to, best, class_of, default_class, reaches, unsuitable

MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany")


def of(type_: Any, **parts: Any) -> Any:
    return msgspec.convert(parts, type_)


def claim(size: str = "1Gi", class_: str | None = "", modes: Any = ("ReadWriteOnce",), **spec: Any) -> PersistentVolumeClaim:
    said = {"accessModes": modes, "resources": {"requests": {"storage": size}}, "storageClassName": class_, **spec}
    whole = {"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": said}
    view: PersistentVolumeClaim = PersistentVolumeClaim.decoder()(msgspec.json.encode(whole))
    return view


def volume(
    name: str = "v", size: str = "1Gi", class_: str = "", modes: Any = ("ReadWriteOnce",), labels: Any = (), **spec: Any
) -> PersistentVolume:
    said = {"accessModes": modes, "capacity": {"storage": size}, "storageClassName": class_, **spec}
    whole = {"metadata": {"name": name, "labels": dict(labels)}, "spec": said}
    view: PersistentVolume = PersistentVolume.decoder()(msgspec.json.encode(whole))
    return view


@pytest.mark.parametrize(
    ("have", "asked", "why"),
    [
        (volume(size="1023Mi"), claim(size="1Gi"), "requested PV is too small"),
        (volume(class_="a"), claim(class_="b"), "storageClassName does not match"),
        (volume(class_="a"), claim(class_=""), "storageClassName does not match"),
        (volume(volumeMode="Block"), claim(), "incompatible volumeMode"),
        (volume(), claim(modes=["ReadWriteOnce", "ReadOnlyMany"]), "incompatible accessMode"),
        (volume(size="1G", modes=MODES), claim(size="1e9"), ""),
        (volume(), claim(class_=None), ""),
    ],
)
def test_why_a_volume_does_not_suit(have: PersistentVolume, asked: PersistentVolumeClaim, why: str) -> None:
    assert unsuitable(have, asked) == why


@pytest.mark.parametrize(
    ("selector", "suits"),
    [
        ({"matchLabels": {"disk": "fast"}}, True),
        ({"matchLabels": {"disk": "slow"}}, False),
        ({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["fast"]}]}, False),
        ({}, True),
        ({"matchExpressions": [{"key": "disk", "operator": "Nonsense"}]}, False),
    ],
)
def test_labels_choose_where_a_claim_has_a_selector(selector: Any, suits: bool) -> None:
    there = volume(labels={"disk": "fast"})
    assert best([there], claim(selector=selector)) == (there if suits else None)


SIZES = st.sampled_from(["1", "1Ki", "1000", "512Mi", "1Gi", "1G", "2Gi", "1.5Gi"])
VOLUMES = st.builds(
    volume,
    name=st.sampled_from("abcdef"),
    size=SIZES,
    class_=st.sampled_from(["", "x"]),
    modes=st.sets(st.sampled_from(MODES), min_size=1).map(sorted),
    claimRef=st.sampled_from([None, {"namespace": "n", "name": "c", "uid": "u"}, {"namespace": "n", "name": "other"}]),
)


@given(st.lists(VOLUMES, max_size=8), SIZES, st.sampled_from(["", "x"]), st.sampled_from(MODES))
def test_the_smallest_free_one_that_suits_whatever_their_order(volumes: Any, size: str, class_: str, mode: str) -> None:
    asked = claim(size, class_, [mode])
    found = best(volumes, asked)
    suiting = [each for each in volumes if each.spec.claim_ref is None and not unsuitable(each, asked)]
    if found is None:
        assert not suiting
        return
    assert found in suiting
    assert parse(found.spec.capacity["storage"]) == min(parse(each.spec.capacity["storage"]) for each in suiting) >= parse(size)
    again = best(reversed(volumes), asked)
    assert again is not None
    assert (again.metadata.name, parse(again.spec.capacity["storage"])) == (found.metadata.name, parse(found.spec.capacity["storage"]))


def test_a_volume_belongs_to_a_claim_by_uid_or_reserved_by_name() -> None:
    reference = {"namespace": "n", "name": "c"}
    assert belongs_to(volume(claimRef={**reference, "uid": "u"}), claim())
    assert belongs_to(volume(claimRef=reference), claim())
    assert not belongs_to(volume(claimRef={**reference, "uid": "an older one's"}), claim())
    assert not belongs_to(volume(), claim())


def test_the_newest_default_class_counts() -> None:
    def marked(name: str, at: str, default: str = "true") -> StorageClass:
        annotations = {"storageclass.kubernetes.io/is-default-class": default}
        view: StorageClass = of(StorageClass, metadata={"name": name, "creationTimestamp": at, "annotations": annotations})
        return view

    old, new = marked("old", "2026-01-01T00:00:00Z"), marked("new", "2026-02-01T00:00:00Z")
    assert default_class([new, old, marked("never", "2026-03-01T00:00:00Z", "false")]) is new
    assert default_class([marked("b", "2026-01-01T00:00:00Z"), old]).metadata.name == "b"  # type: ignore[union-attr]
    assert default_class([]) is None


def test_the_old_annotation_names_a_class_too() -> None:
    whole = {"metadata": {"name": "c", "annotations": {"volume.beta.kubernetes.io/storage-class": "old"}}, "spec": {}}
    assert class_of(of(PersistentVolumeClaim, **whole)) == "old"
    assert class_of(claim(class_=None)) is None


def test_a_volume_reaches_the_nodes_that_its_affinity_names() -> None:
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]}]
    bound = volume(nodeAffinity={"required": {"nodeSelectorTerms": terms}})
    nodes = [of(Node, metadata={"name": name, "labels": {"kubernetes.io/hostname": name}}) for name in ("a", "b")]
    assert [reaches(bound, node) for node in nodes] == [True, False]
    assert all(reaches(volume(), node) for node in nodes)
    assert (bound.node_name, volume().node_name) == ("a", "")
