"""Volumes as folders: files from the API that change in one step, host paths of a kind, no way out by subPath."""

import base64
import contextlib
import ctypes
import os
import stat
import threading
from functools import partial
from types import MappingProxyType

import pytest

from labctl.agent import linux, trust
from labctl.agent.environment import ConfigError, PodFacts
from labctl.agent.volumes import Sources, VolumeFailure, most_memory, of_token, prepare, read_only, sub_path, write_atomically
from tests.agent.fakeapi import FakeApi

AT_CWD, RENAME_EXCHANGE = -100, 2


class Objects(dict):
    async def fetch(self, kind, namespace, name):
        return self.get((kind, name))


async def prepared(tmp_path, volume, objects=None, bundles=MappingProxyType({}), context=MappingProxyType({}), **meta):
    pod = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", **meta},
        "spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", **volume}], "securityContext": dict(context)},
    }

    async def token(_pod, source):
        return f"token for {source.get('audience', 'the API')}"

    async def certificate(_pod, volume, index):
        return f"key of {volume} {index}\n".encode(), b"chain\n"

    api = FakeApi()
    for path, value in bundles.items():
        api.put(path, value)
    sources = Sources(Objects(objects or {}).fetch, token, partial(trust.anchors, api), certificate)
    return (await prepare(pod, str(tmp_path), PodFacts("10.246.1.2"), sources))["v"]


def write(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def read_below(folder, path):
    with open(os.path.join(folder, path)) as file:
        return file.read()


def kind(path):
    return stat.S_IFMT(os.stat(path).st_mode)


def content(folder):
    return {name: open(os.path.join(folder, name)).read() for name in os.listdir(folder) if not name.startswith("..")}


async def test_a_config_map_changes_in_one_step(tmp_path):
    volume = {"configMap": {"name": "cm"}}
    folder = await prepared(tmp_path, volume, {("configmaps", "cm"): {"data": {"a": "1", "b": "2"}}})
    assert content(folder) == {"a": "1", "b": "2"}
    before = os.readlink(os.path.join(folder, "..data"))
    await prepared(tmp_path, volume, {("configmaps", "cm"): {"data": {"a": "1", "b": "2"}}})
    assert os.readlink(os.path.join(folder, "..data")) == before
    await prepared(tmp_path, volume, {("configmaps", "cm"): {"data": {"a": "9", "c": "3"}}})
    assert content(folder) == {"a": "9", "c": "3"}
    assert len([name for name in os.listdir(folder) if name.startswith("..2")]) == 1


async def test_secrets_items_and_modes(tmp_path):
    secret = {("secrets", "s"): {"data": {"pw": base64.b64encode(b"hush").decode(), "other": ""}}}
    folder = await prepared(tmp_path, {"secret": {"secretName": "s", "items": [{"key": "pw", "path": "deep/pw", "mode": 0o400}]}}, secret)
    assert os.listdir(folder).count("deep") == 1
    assert stat.S_IMODE(os.stat(os.path.join(folder, "deep/pw")).st_mode) == 0o400


async def test_a_projected_volume_is_all_of_its_sources(tmp_path):
    sources = [{"configMap": {"name": "cm"}}, {"downwardAPI": {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]}}]
    folder = await prepared(tmp_path, {"projected": {"sources": sources}}, {("configmaps", "cm"): {"data": {"a": "1"}}})
    assert content(folder) == {"a": "1", "me": "web"}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
        ({"secret": {"secretName": "gone"}}, 'secret "gone" not found'),
        ({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}, "references non-existent config key: z"),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../../a"}]}}, "leaves the volume"),
        ({"iscsi": {"lun": 0}}, "volumes of type iscsi are not supported"),
        ({"hostPath": {"path": "/etc/hostname", "type": "Directory"}}, "hostPath type check failed: /etc/hostname is not a directory"),
        ({"hostPath": {"path": "/nowhere/x", "type": "File"}}, "hostPath type check failed: /nowhere/x is not a file"),
    ],
)
async def test_what_can_not_be_set_up_says_why(tmp_path, volume, message):
    with pytest.raises(VolumeFailure, match=message) as failure:
        await prepared(tmp_path, volume, {("configmaps", "cm"): {"data": {"a": "1"}}})
    assert failure.value.volume == "v"


async def test_an_optional_object_may_be_missing(tmp_path):
    assert content(await prepared(tmp_path, {"configMap": {"name": "gone", "optional": True}})) == {}


async def test_an_empty_dir_keeps_what_is_in_it(tmp_path):
    folder = await prepared(tmp_path, {"emptyDir": {}})
    write(folder, "f", "kept")
    assert content(await prepared(tmp_path, {"emptyDir": {}})) == {"f": "kept"}
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o777


@pytest.mark.root
async def test_memory_has_the_sticky_bit_like_any_tmpfs(tmp_path):
    folder = await prepared(tmp_path, {"emptyDir": {"medium": "Memory"}})
    try:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o1777
    finally:
        linux.unmount(folder)


async def test_host_paths_are_made_where_asked(tmp_path):
    assert kind(await prepared(tmp_path, {"hostPath": {"path": str(tmp_path / "h/d"), "type": "DirectoryOrCreate"}})) == stat.S_IFDIR
    assert kind(await prepared(tmp_path, {"hostPath": {"path": str(tmp_path / "h/f"), "type": "FileOrCreate"}})) == stat.S_IFREG


def shown(volume, below):
    """What a mount of that sub-path would show."""
    descriptor = sub_path(str(volume), below)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_a_sub_path_is_made_and_stays_inside_though_links_lead_out(tmp_path):
    volume = tmp_path / "v"
    volume.mkdir(0o777)
    os.chmod(volume, 0o777)
    os.symlink("/etc", volume / "evil")
    os.symlink("evil", volume / "chained")
    os.symlink("a", volume / "inner")
    assert shown(volume, "a/b") == str(volume / "a/b")
    assert stat.S_IMODE(os.stat(volume / "a/b").st_mode) == 0o777
    assert shown(volume, "inner/b") == str(volume / "a/b")
    assert shown(volume, ".") == str(volume)
    for below in ("../x", "evil", "evil/passwd", "chained/passwd", "/etc", "a/../../x"):
        with pytest.raises(OSError, match="leaves its folder"):
            sub_path(str(volume), below)


@pytest.mark.parametrize("mode", [0o2775, 0o3777])
def test_a_sub_path_that_is_made_has_the_whole_mode_of_its_volume(tmp_path, mode):
    os.chmod(tmp_path, mode)
    shown(tmp_path, "a/b")
    assert [stat.S_IMODE(os.stat(tmp_path / each).st_mode) for each in ("a", "a/b")] == [mode, mode]


def test_a_sub_path_that_is_exchanged_for_a_link_again_and_again_never_leads_out(tmp_path):
    """CVE-2021-25741: what was a folder when it was looked at is a link to / when it is mounted."""
    volume = tmp_path / "v"
    (volume / "x" / "y").mkdir(parents=True)
    os.symlink("/", volume / "link")
    over, exchange_names = threading.Event(), ctypes.CDLL(None).renameat2

    def exchange():
        while not over.is_set():
            exchange_names(AT_CWD, os.fsencode(volume / "x"), AT_CWD, os.fsencode(volume / "link"), RENAME_EXCHANGE)

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            with contextlib.suppress(OSError):
                seen.add(shown(volume, "x"))
            with contextlib.suppress(OSError):
                seen.add(shown(volume, "x/y"))
    finally:
        over.set()
        thread.join()
    assert seen and all(path.startswith(str(volume)) for path in seen), seen


async def test_what_a_container_made_of_a_volume_of_the_api_directs_nothing(tmp_path):
    """CVE-2017-1002102: `..data` that leads somewhere else, pipes and folders in the way. Such volumes are read-only; old ones may have been written to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    write(outside, "a", "1")
    for number, target in enumerate((str(outside), "../../../outside", "..", ".")):
        pod_dir = tmp_path / str(number)
        objects = {("configmaps", "cm"): {"data": {"a": "1", "b": "1"}}}
        folder = await prepared(pod_dir, {"configMap": {"name": "cm"}}, objects)
        os.unlink(os.path.join(folder, "..data"))
        os.symlink(target, os.path.join(folder, "..data"))
        os.unlink(os.path.join(folder, "b"))
        os.mkdir(os.path.join(folder, "b"))
        os.mkfifo(os.path.join(folder, "pipe"))
        objects[("configmaps", "cm")]["data"]["a"] = "2"
        assert content(await prepared(pod_dir, {"configMap": {"name": "cm"}}, objects)) == {"a": "2", "b": "1"}
        assert os.listdir(outside) == ["a"]


def test_volumes_of_the_api_are_read_only_for_containers():
    volumes = [{"name": kind, kind: {}} for kind in ("configMap", "secret", "projected", "downwardAPI", "emptyDir", "hostPath")]
    assert read_only({"spec": {"volumes": volumes}}) == {"configMap", "secret", "projected", "downwardAPI"}


def test_a_reader_never_sees_half(tmp_path):
    """Whoever opened the folder by its link sees the old files or the new ones."""
    write_atomically(str(tmp_path), {"a": (b"1", 0o644, None), "b": (b"1", 0o644, None)})
    old = os.path.realpath(tmp_path / "..data")
    write_atomically(str(tmp_path), {"a": (b"2", 0o644, None), "b": (b"2", 0o644, None)})
    assert os.path.realpath(tmp_path / "..data") != old
    assert {(tmp_path / name).read_text() for name in ("a", "b")} == {"2"}


@pytest.mark.parametrize(
    ("contexts", "pod_context", "mode", "owner"),
    [
        (({},), {}, 0o644, 0),
        (({"runAsUser": 1000},), {}, 0o600, 1000),
        (({"runAsUser": 1000}, {}), {}, 0o644, 0),
        (({}, {}), {"runAsUser": 7}, 0o600, 7),
        (({},), {"fsGroup": 2000}, 0o640, 0),
    ],
)
def test_a_token_is_for_the_one_user_of_all_containers(contexts, pod_context, mode, owner):
    spec = {"containers": [{"name": "c", "securityContext": each} for each in contexts], "securityContext": pod_context}
    found, user = of_token({"spec": spec}, 0o644)
    assert (found | (0o040 if "fsGroup" in pod_context else 0), user or 0) == (mode, owner)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
async def test_a_token_belongs_to_its_reader(tmp_path):
    write_atomically(str(tmp_path), {"token": (b"t", 0o600, 1234)})
    found = os.stat(tmp_path / "token")
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, 1234)


@pytest.mark.parametrize(
    ("asked", "limit", "allocatable", "expected"),
    [
        ({}, None, "900Mi", 900 << 20),
        ({"sizeLimit": "64Mi"}, None, "900Mi", 64 << 20),
        ({}, "128Mi", "900Mi", 128 << 20),
        ({}, None, None, 0),
    ],
)
def test_a_volume_in_memory_takes_no_more_than_its_pod_may(asked, limit, allocatable, expected):
    container = {"name": "c", **({"resources": {"limits": {"memory": limit}}} if limit else {})}
    facts = PodFacts(allocatable={"memory": allocatable} if allocatable else {})
    assert most_memory({"spec": {"containers": [container]}}, {"medium": "Memory", **asked}, facts) == expected


def bundle(name, *marks):
    blocks = "\n".join(f"words between\n-----BEGIN CERTIFICATE-----\n{mark}\n-----END CERTIFICATE-----" for mark in marks)
    return {"metadata": {"name": name}, "spec": {"trustBundle": blocks}}


def anchored(**source):
    return {"projected": {"sources": [{"clusterTrustBundle": {"path": "ca.crt", **source}}]}}


async def test_a_trust_bundle_by_its_name(tmp_path):
    bundles = {f"{trust.PATH}/anchors": bundle("anchors", "BB", "AA", "BB")}
    folder = await prepared(tmp_path, anchored(name="anchors"), bundles=bundles)
    said = content(folder)["ca.crt"]
    assert said.count("BEGIN") == 2 and said.index("AA") < said.index("BB") and "words" not in said
    with pytest.raises(VolumeFailure, match='clustertrustbundle "other" not found'):
        await prepared(tmp_path, anchored(name="other"), bundles=bundles)
    assert content(await prepared(tmp_path, anchored(name="other", optional=True))) == {"ca.crt": ""}


async def test_trust_bundles_of_a_signer(tmp_path):
    asked = []

    class Listing(FakeApi):
        async def get(self, path, timeout_s=10.0, **query):
            asked.append((path, query))
            return {"items": [bundle("one", "AA"), bundle("two", "BB", "AA")]}

    selector = {"matchLabels": {"live": "yes"}, "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
    found = await trust.anchors(Listing(), {"path": "x", "signerName": "example.com/s", "labelSelector": selector})
    assert found.count(b"BEGIN") == 2
    assert asked == [(trust.PATH, {"fieldSelector": "spec.signerName=example.com/s", "labelSelector": "live=yes,zone in (a,b)"})]
    with pytest.raises(ConfigError, match='of signer "example.com/s" not found'):
        await trust.anchors(Listing(), {"path": "x", "signerName": "example.com/s"})


@pytest.mark.parametrize(
    ("context", "mode", "owner"), [({}, 0o440, 0), ({"runAsUser": 1000}, 0o600, 1000), ({"runAsUser": 1000, "fsGroup": 2000}, 0o640, 1000)]
)
async def test_a_certificate_and_its_key_as_one_file_and_as_two(tmp_path, context, mode, owner):
    paths = {"credentialBundlePath": "tls/bundle.pem", "keyPath": "key.pem", "certificateChainPath": "chain.pem"}
    sources = [{"configMap": {"name": "cm"}}, {"podCertificate": {**paths, "signerName": "a.b/c", "keyType": "ED25519"}}]
    volume = {"projected": {"defaultMode": 0o440, "sources": sources}}
    folder = await prepared(tmp_path, volume, {("configmaps", "cm"): {"data": {"a": "1"}}}, context=context)
    found = {path: read_below(folder, path) for path in ("a", *paths.values())}
    assert found == {"a": "1", "tls/bundle.pem": "key of v 1\nchain\n", "key.pem": "key of v 1\n", "chain.pem": "chain\n"}
    for path in paths.values():
        about = os.stat(os.path.join(folder, path))
        assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (mode, owner, context.get("fsGroup", 0))


async def test_one_file_of_a_certificate(tmp_path):
    source = {"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519", "certificateChainPath": "chain.pem"}}
    assert content(await prepared(tmp_path, {"projected": {"sources": [source]}})) == {"chain.pem": "chain\n"}
