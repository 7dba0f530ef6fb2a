"""Images as volumes: fetched before the containers start, mounted once, and never collected while they are mounted."""

import os

from labctl.agent import imagevolumes
from tests.agent.test_worker import PATH, Node, pod, running, until

SITE = {"name": "site", "image": {"reference": "site:1", "pullPolicy": "IfNotPresent"}}


def with_image():
    made = pod(volumeMounts=[{"name": "site", "mountPath": "/site"}])
    made["spec"]["volumes"] = [SITE]
    return made


def on_fake_disk(monkeypatch):
    mounted = {}
    monkeypatch.setattr(imagevolumes, "_mount", lambda layers, folder: mounted.update({folder: tuple(layers)}))
    monkeypatch.setattr(os.path, "ismount", lambda path: path in mounted)
    return mounted


async def test_it_is_fetched_and_mounted_before_the_containers_start(tmp_path, monkeypatch):
    mounted = on_fake_disk(monkeypatch)
    node = Node(tmp_path)
    node.images.missing["site:1"] = "no such image"
    node.see(with_image())
    try:
        await until(lambda: state(node).get("reason") in ("ErrImagePull", "ImagePullBackOff"))
        assert node.container() is None and not mounted
        await until(lambda: any(each["reason"] == "Failed" for each in node.api.events))
        assert not any("fieldPath" in each["involvedObject"] for each in node.api.events if each["reason"] == "Failed"), (
            "it is no container"
        )
        node.images.missing.clear()
        await until(lambda: node.status.get("phase") == "Running")
        [(folder, layers)] = mounted.items()
        assert layers == ("/layer",) and folder.endswith("/volumes/site")
        [mount] = [each for each in node.machine.specs[node.container().id].mounts if each.target == "/site"]
        assert (mount.source, mount.read_only) == (folder, True)
        assert imagevolumes.layers_in_use(node.worker._tools.pod_dir("u1")) == {"/layer"}
    finally:
        await node.stop()


def state(node):
    return next((each["state"].get("waiting", {}) for each in node.status.get("containerStatuses", ())), {})


async def test_a_new_agent_finds_it_mounted(tmp_path, monkeypatch):
    mounted = on_fake_disk(monkeypatch)
    async with running(tmp_path, with_image()) as node:
        await until(lambda: node.status.get("phase") == "Running")
        before = dict(mounted)
        await node.stop()
        node.images.missing["site:1"] = "gone meanwhile"
        node.see(node.api.objects[PATH])
        node.machine.finish(node.container().id, 1)
        await until(
            lambda: node.status["containerStatuses"][0]["restartCount"] == 1 and "running" in node.status["containerStatuses"][0]["state"]
        )
        assert mounted == before
