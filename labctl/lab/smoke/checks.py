"""The checks of `labctl smoke`, in order: the scenario that labctl is made for, then a fault, then healing.

Each is a function that raises LabctlError when something is not as promised, and otherwise returns a sentence about what it saw.
Every wait has a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from labctl import assets
from labctl.errors import LabctlError
from labctl.lab.load import Load, Outcome
from labctl.lab.smoke.scene import PODS_S, Scene, condition

IMAGES = ("nginx", "busybox")
_RULES_S = 15.0
_ASKED = 40
# A pod without a readiness probe is Ready before its program listens: on a slow machine a request may arrive in between, as in any cluster. The pods
# that come while requests are counted have a probe; those of the article's own file have none.
_PROBED = """
{"spec": {"template": {"spec": {"containers": [
  {"name": "nginx", "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1, "timeoutSeconds": 5}}]}}}}
"""


class Check(msgspec.Struct, frozen=True):
    """One check. With `always` it runs even after another has failed, because it cleans up."""

    name: str
    run: Callable[[Scene], str]
    always: bool = False


# -- the scenario --------------------------------------------------------------------------------------------------------


def images(scene: Scene) -> str:
    """Build the images that the store lacks. If this host can't build them, pods pull them from the registry."""
    from labctl.lab import images as store

    held = {image.name.rpartition("/")[2].partition(":")[0] for image in store.images(scene.lab).list()}
    said = []
    for name in IMAGES:
        try:
            said.append(f"{name} is here" if name in held else f"{name} built: {store.build(scene.lab, name).size >> 10} KiB")
        except LabctlError as error:
            said.append(f"{name} is left to the registry ({error.message})")
    return ", ".join(said)


def nodes(scene: Scene) -> str:
    found = scene.lab.api.get("/api/v1/nodes")["items"]
    for node in found:
        name = node["metadata"]["name"]
        if condition(node, "Ready") != "True":
            raise LabctlError(f"node {name} is not Ready")
        if node["metadata"]["labels"].get("kubernetes.io/hostname") != name:
            raise LabctlError(f"node {name} lacks its label kubernetes.io/hostname")
    return ", ".join(node["metadata"]["name"] for node in found)


def controller(scene: Scene) -> str:
    scene.kubectl("create", "-f", str(assets.seed("nginx-rc.yml")))
    pods = scene.wait_ready(2)
    return ", ".join(f"{pod['metadata']['name']} on {pod['spec']['nodeName']}" for pod in pods)


def pod_addresses(scene: Scene) -> str:
    addresses = [pod["status"]["podIP"] for pod in scene.ready()]
    for minion in scene.minions:
        for address in addresses:
            scene.curl(minion, address)
    return f"{', '.join(addresses)} from {', '.join(scene.minions)}"


def service(scene: Scene) -> str:
    scene.kubectl("create", "-f", str(assets.seed("nginx-service.yml")))
    vip = scene.vip
    for minion in scene.minions:
        scene.wait(lambda m=minion: _answers(scene, m, vip), f"{vip} answers {minion}", _RULES_S)  # type: ignore[misc]
    return f"{vip} from {', '.join(scene.minions)}"


def balance(scene: Scene) -> str:
    before = _asked(scene)
    script = f"for i in $(seq {_ASKED}); do curl -q -s -o /dev/null --max-time 5 {scene.vip} || exit 1; done"
    done = scene.lab.run(scene.minions[0], script, check=False, timeout_s=120)
    if done.returncode:
        raise LabctlError(f"one of {_ASKED} requests was not answered")
    # what a container wrote is in its log a moment later
    scene.wait(lambda: sum(_asked(scene).values()) >= sum(before.values()) + _ASKED, f"{_ASKED} requests are in the pods' logs", _RULES_S)
    shares = {name: count - before.get(name, 0) for name, count in _asked(scene).items()}
    if min(shares.values()) == 0:
        raise LabctlError(f"of {_ASKED} requests one pod answered none: {shares}")
    return ", ".join(f"{name} answered {share}" for name, share in shares.items())


def from_a_pod(scene: Scene) -> str:
    scene.kubectl("run", "asker", "--image=busybox", "--restart=Never", "--", "sleep", "600")
    scene.wait(lambda: condition(scene.object("pods", "asker"), "Ready") == "True", "the asking pod runs")
    scene.kubectl("exec", "asker", "--", "wget", "-q", "-O", "/dev/null", f"http://{scene.vip}")
    scene.kubectl("delete", "pod", "asker", "--now", "--wait=false")
    return f"wget http://{scene.vip}"


def restart(scene: Scene) -> str:
    name = scene.ready()[0]["metadata"]["name"]
    scene.kubectl("exec", name, "--", "nginx", "-s", "stop", check=False)

    def restarted() -> bool:
        status = scene.object("pods", name)["status"]["containerStatuses"][0]
        return status["restartCount"] > 0 and status["ready"]

    begun = time.monotonic()
    scene.wait(restarted, f"the container of {name} was started again")
    return f"{name} ran again after {time.monotonic() - begun:.2f} s"


def replace(scene: Scene) -> str:
    scene.kubectl("patch", "rc", "nginx-controller", "--patch", _PROBED)
    name = scene.ready()[0]["metadata"]["name"]
    with scene.load(scene.minions[-1]) as load:
        scene.kubectl("delete", "pod", name, "--wait=false")
        scene.wait_ready(2, without=frozenset({name}))
    return _none_failed(load)


def scale(scene: Scene) -> str:
    with scene.load(scene.minions[0]) as load:
        for replicas in (4, 1, 2):
            scene.kubectl("scale", "rc", "nginx-controller", f"--replicas={replicas}")
            scene.wait_ready(replicas)
    return _none_failed(load)


# -- the fault -----------------------------------------------------------------------------------------------------------


def power_off(scene: Scene) -> str:
    """Cut the power of a machine that runs pods. Its pods must be replaced elsewhere, and the Service must answer."""
    victim = scene.ready()[0]["spec"]["nodeName"]
    witness = next(name for name in scene.minions if name != victim)
    with scene.load(witness) as load:
        begun = time.monotonic()
        scene.killed = victim
        scene.lab.fault("power_off", victim)
        scene.wait_ready(2, without=frozenset({victim}))
        took_s = time.monotonic() - begun
    scene.curl(witness, scene.vip)
    return f"{victim} lost its power; healed after {took_s:.2f} s; {load.outcome}"


def kill_pods(scene: Scene) -> str:
    """Kill all pods of the Service at once, without grace. This replaces `power_off` where no machine's power can be cut."""
    names = frozenset(pod["metadata"]["name"] for pod in scene.ready())
    begun = time.monotonic()
    scene.kubectl("delete", "pod", *names, "--force", "--grace-period=0", "--wait=false")
    scene.wait_ready(2, without=names)
    took_s = time.monotonic() - begun
    scene.wait(lambda: _answers(scene, scene.minions[0], scene.vip), "the Service answers again", _RULES_S)
    return f"both pods killed; healed after {took_s:.2f} s"


def recover(scene: Scene) -> str:
    victim = scene.killed
    if not victim:
        return "none was off"
    scene.lab.up()
    scene.wait(lambda: victim in scene.minions, f"{victim} is Ready, without taints", PODS_S)
    scene.wait(lambda: _answers(scene, victim, scene.vip), f"the Service answers {victim}", _RULES_S)
    return f"{victim} is Ready again and reaches {scene.vip}"


def clean(scene: Scene) -> str:
    """Check that what smoke made in the API is deleted."""
    scene.kubectl("delete", "pods", "--all", "--now", "--wait=false", check=False)
    scene.kubectl("delete", "namespace", scene.namespace, "--ignore-not-found", "--wait=false")
    scene.wait(lambda: not scene.lab.api.find(f"/api/v1/namespaces/{scene.namespace}"), f"namespace {scene.namespace} is gone")
    return f"namespace {scene.namespace}"


def _answers(scene: Scene, minion: str, address: str) -> bool:
    try:
        return bool(scene.curl(minion, address))
    except LabctlError:
        return False


def _asked(scene: Scene) -> dict[str, int]:
    """Return how many requests each pod has in its log."""
    names = [pod["metadata"]["name"] for pod in scene.ready()]
    return {name: scene.kubectl("logs", name).count('"GET / ') for name in names}


def _none_failed(load: Load) -> str:
    outcome: Outcome = load.outcome
    if outcome.failed:
        raise LabctlError(f"{outcome}: {', '.join(outcome.errors)}")
    return str(outcome)


SCENARIO: Sequence[Check] = (
    Check("every node is Ready and has its label", nodes),
    Check("a replication controller runs two pods", controller),
    Check("every minion reaches every pod", pod_addresses),
    Check("a Service answers every minion at its virtual IP", service),
    Check("both pods answer in turn", balance),
    Check("a pod reaches the virtual IP", from_a_pod),
    Check("a container that fails is started again", restart),
    Check("a deleted pod is replaced and no request fails", replace),
    Check("scaling up and down fails no request", scale),
)
POWER_OFF: Sequence[Check] = (
    Check("a minion loses its power and the Service heals", power_off),
    Check("the minion comes back", recover, always=True),
)
KILL_PODS: Sequence[Check] = (Check("all pods are killed and the Service heals", kill_pods),)
IMAGES_CHECK = Check("the images are here", images)
CLEAN = Check("what smoke made is gone", clean, always=True)
