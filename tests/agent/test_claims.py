"""Volumes of claims on a machine: found through claim and volume, made where they are labctl's own, removed when their PersistentVolume goes."""

import asyncio
import os
import stat

import pytest

from labctl.agent import claims
from labctl.agent.claims import LOCAL_DATA, Keeper, nfs_refusal
from labctl.agent.client import Refused
from labctl.agent.environment import PodFacts
from labctl.agent.http import Unreachable
from labctl.agent.volumes import Sources, VolumeFailure, prepare, read_only

NAME = "pvc-1"


def claim(volume=NAME, bound=True):
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if bound else {}
    return {"metadata": {"name": "data", "uid": "c1", "annotations": annotations}, "spec": {"volumeName": volume}}


def volume(name=NAME, own=True, uid="c1", policy="Delete", source=None, **meta):
    annotations = {"pv.kubernetes.io/provisioned-by": "labctl.internal/local"} if own else {}
    spec = {"claimRef": {"uid": uid}, "persistentVolumeReclaimPolicy": policy, **(source or {"local": {"path": "/anywhere"}})}
    return {"metadata": {"name": name, "annotations": annotations, "resourceVersion": "1", **meta}, "spec": spec}


def pod(asked=None, **spec):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data", **(asked or {})}}]
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"containers": [{"name": "c"}], "volumes": volumes, **spec},
    }


async def prepared(tmp_path, *objects, **spec):
    there = dict(zip(("persistentvolumeclaims", "persistentvolumes"), objects, strict=False))

    async def fetch(kind, namespace, name):
        found = there.get(kind)
        return found if found is not None and found["metadata"]["name"] == name else None

    paths = await prepare(
        pod(**spec), str(tmp_path / "pod"), PodFacts("10.246.1.2"), Sources(fetch, fetch, fetch, fetch, str(tmp_path / "volumes"))
    )
    return paths["v"]


async def test_a_folder_is_made_once_for_every_user_and_found_again(tmp_path):
    path = await prepared(tmp_path, claim(), volume())
    assert path == str(tmp_path / "volumes" / NAME), "the volume's name says where, not what its object says"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o777
    (tmp_path / "volumes" / NAME / "file").write_text("kept")
    os.chmod(path, 0o700)
    assert await prepared(tmp_path, claim(), volume()) == path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, "what it looks like is its users' affair"
    assert os.listdir(path) == ["file"]


async def test_it_belongs_to_the_pods_group(tmp_path):
    path = await prepared(tmp_path, claim(), volume(), securityContext={"fsGroup": 4711})
    assert (os.stat(path).st_gid, bool(os.stat(path).st_mode & stat.S_ISGID)) == (4711, True)


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ((), 'persistentvolumeclaim "data" not found'),
        ((claim(""),), 'persistentvolumeclaim "data" is not bound'),
        ((claim(bound=False), volume()), 'persistentvolumeclaim "data" is not bound'),
        ((claim(),), 'persistentvolume "pvc-1" not found'),
        ((claim(), volume(uid="other")), 'persistentvolume "pvc-1" is bound to another claim'),
        ((claim(), volume(own=False, source={"local": {"path": "/not/there"}})), 'path "/not/there" does not exist'),
        ((claim(), volume(own=False, source={"csi": {"driver": "x"}})), "volumes of type csi are not supported"),
        ((claim(), volume(volumeMode="Block", source={"volumeMode": "Block", "local": {}})), "volumeMode Block, which is not supported"),
    ],
)
async def test_why_a_claims_volume_can_not_be_mounted(tmp_path, objects, words):
    with pytest.raises(VolumeFailure) as failed:
        await prepared(tmp_path, *objects)
    assert failed.value.volume == "v" and words in str(failed.value)


async def test_an_ephemeral_volume_takes_no_claim_of_others(tmp_path):
    own = [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]
    there = claim()
    there["metadata"]["name"] = "web-v"
    with pytest.raises(VolumeFailure, match="was not created for this pod"):
        await prepared(tmp_path, there, volume(), volumes=own)
    there["metadata"]["ownerReferences"] = [{"uid": "u1"}]
    assert await prepared(tmp_path, there, volume(), volumes=own) == str(tmp_path / "volumes" / NAME)


async def test_static_volumes_are_what_they_say(tmp_path):
    there, made = tmp_path / "disk", tmp_path / "made"
    there.mkdir()
    assert await prepared(tmp_path, claim(), volume(own=False, source={"local": {"path": str(there)}})) == str(there)
    host = {"hostPath": {"path": str(made), "type": "DirectoryOrCreate"}}
    assert await prepared(tmp_path, claim(), volume(own=False, source=host)) == str(made)
    assert made.is_dir()


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b"])
async def test_no_volumes_name_leads_elsewhere(tmp_path, name):
    assert claims.own_folder(str(tmp_path), volume(name)) == ""


def test_a_claim_that_says_so_is_read_only():
    assert read_only(pod()) == set()
    assert read_only(pod({"readOnly": True})) == {"v"}


def test_nfs_says_what_the_machine_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "mount.nfs" in nfs_refusal()
    tool = tmp_path / "mount.nfs"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    known = tmp_path / "filesystems"
    known.write_text("nodev\ttmpfs\n\text4\n")
    assert nfs_refusal(str(known)) == "its kernel has no NFS"
    known.write_text("nodev\tnfs4\n")
    assert nfs_refusal(str(known)) == ""


class Volumes:
    """The API's PersistentVolumes, and what was said of them."""

    def __init__(self, *volumes):
        self.volumes, self.patches, self.away = list(volumes), [], False

    async def get(self, path, **_query):
        return {"metadata": {"resourceVersion": "1"}, "items": self.volumes}

    async def stream(self, path, timeout_s=10.0):
        await asyncio.Event().wait()

    async def patch(self, path, value, kind):
        if self.away:
            raise Unreachable("no route")
        self.patches.append((path, value))
        if len(self.patches) > 10:
            raise Refused(500, "", "too often")


async def kept(api, folder, until):
    task = asyncio.ensure_future(Keeper(api, "n1", str(folder), lambda _text: None).run())
    try:
        for _ in range(500):
            if until():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not happen")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def leaving(name, policy="Delete", finalizers=(LOCAL_DATA,)):
    return volume(name, policy=policy, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=list(finalizers))


async def test_data_goes_with_its_volume_as_the_policy_says_and_no_other(tmp_path):
    for name in ("goes", "stays", "used", "other"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_text("x")
    (tmp_path / "goes" / "out").symlink_to(tmp_path / "other")
    api = Volumes(leaving("goes"), leaving("stays", "Retain"), leaving("used", finalizers=["kubernetes.io/pv-protection", LOCAL_DATA]))
    await kept(api, tmp_path, lambda: len(api.patches) == 2)
    assert sorted(os.listdir(tmp_path)) == ["other", "stays", "used"]
    assert os.listdir(tmp_path / "other" / "deep") == ["file"], "a link is removed, not followed"
    body = {"metadata": {"finalizers": [], "resourceVersion": "1"}}
    assert sorted(api.patches) == [(f"/api/v1/persistentvolumes/{name}", body) for name in ("goes", "stays")]


async def test_an_agent_that_was_killed_in_the_middle_finishes(tmp_path):
    (tmp_path / ".gone-goes").mkdir()
    (tmp_path / ".gone-goes" / "rest").write_text("x")
    api = Volumes(leaving("goes"))
    await kept(api, tmp_path, lambda: api.patches)
    assert os.listdir(tmp_path) == []


async def test_while_the_api_is_away_it_is_tried_again(tmp_path):
    api = Volumes(leaving("goes"))
    api.away = True
    asyncio.get_running_loop().call_later(0.2, lambda: setattr(api, "away", False))
    await kept(api, tmp_path, lambda: api.patches)
