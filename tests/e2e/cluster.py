"""A lab for scenarios, driven as a person drives it: the `labctl` of an installed wheel, the real kubectl, ssh.

Nothing in here imports labctl: what is tested is what was installed.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.looks import Looks, Unknown

SEED = Path(__file__).parents[2] / "examples" / "seed"


PATIENCE = float(os.environ.get("LABCTL_TEST_PATIENCE", "1"))
"""How many times longer everything may take: machines that are emulated are slow, and a busy host makes them slower."""


class Cluster:
    """One lab in one folder. `wheel` is the folder the wheel was installed into; `inside` begins every command line, to run it in another network."""

    def __init__(self, wheel: Path, folder: Path, state: Path, inside: tuple[str, ...] = (), **environment: str) -> None:
        self.folder = folder
        self.inside = list(inside)
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(wheel),
            "LABCTL_STATE_HOME": str(state),
            "LABCTL_PROVIDER": os.environ.get("LABCTL_TEST_PROVIDER", "namespace"),
            **{name: os.environ[name] for name in ("LABCTL_CACHE_HOME", "VAGRANT_HOME", "GOGC") if name in os.environ},
            **environment,
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._looks = Looks(folder / ".labctl" / "kubeconfig", 60 * PATIENCE)

    # -- commands --------------------------------------------------------------------------------------------------

    def labctl(self, *arguments: str, check: bool = True, timeout_s: float = 240.0, **options) -> subprocess.CompletedProcess:
        return self._run([sys.executable, "-m", "labctl", *arguments], check, timeout_s, options)

    def kubectl(self, *arguments: str, check: bool = True, timeout_s: float = 60.0, **options) -> subprocess.CompletedProcess:
        options.setdefault("env", {**self.environment, "KUBECONFIG": str(self.folder / ".labctl" / "kubeconfig")})
        return self._run(["kubectl", *arguments], check, timeout_s, options)

    def on(self, minion: str, *command: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess:
        """A command on a minion, through the ssh_config that people and Ansible use."""
        config = str(self.folder / ".labctl" / "ssh_config")
        return self._run(["ssh", "-F", config, minion, shlex.join(command)], check, timeout_s, {})

    def _run(self, argv: list[str], check: bool, timeout_s: float, options: dict) -> subprocess.CompletedProcess:
        defaults = {"cwd": self.folder, "env": self.environment, "text": True, "capture_output": True}
        if "input" not in options:
            defaults["stdin"] = subprocess.DEVNULL
        done = subprocess.run([*self.inside, *argv], timeout=timeout_s * PATIENCE, **{**defaults, **options})
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv[-6:])} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    # -- looking ---------------------------------------------------------------------------------------------------

    def get(self, *arguments: str) -> dict:
        """As `kubectl get ARGUMENTS -o json` says it."""
        with contextlib.suppress(Unknown):
            if not self.inside:  # in another network only a process there reaches the API
                return self._looks.get(*arguments)
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def items(self, *arguments: str) -> list[dict]:
        return self.get(*arguments)["items"]

    def status(self) -> dict:
        return json.loads(self.labctl("status", "-o", "json").stdout)

    def pods(self, selector: str = "name=nginx") -> list[dict]:
        """Pods that are not leaving."""
        return [pod for pod in self.items("pods", "-l", selector) if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, selector: str = "name=nginx") -> list[dict]:
        return [pod for pod in self.pods(selector) if condition(pod, "Ready") == "True"]

    def vip(self, service: str = "web-service") -> str:
        return self.get("service", service)["spec"]["clusterIP"]

    def curl(self, minion: str, url: str, *options: str, check: bool = True) -> str:
        return self.on(minion, "curl", "-q", "-s", "-S", "--max-time", "5", *options, url, check=check).stdout

    # -- cleaning --------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Remove what a scenario made, so that the next one starts from the bare lab."""
        self.kubectl("delete", "rc,cm,secret", "--all", "--wait=false")
        self.kubectl("delete", "svc", "-l", "component!=apiserver", "--wait=false")
        self.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", check=False)
        for node in self.items("nodes"):
            if node["spec"].get("unschedulable"):
                self.kubectl("uncordon", node["metadata"]["name"])
        wait(lambda: not self.items("pods"), "no pods are left", 30)

    def destroy(self) -> None:
        self._looks.close()
        if (self.folder / ".labctl").exists():
            self.labctl("destroy", "--yes", check=False)

    def keep_artifacts(self, folder: Path) -> None:
        """What is worth a look after a failure."""
        shutil.rmtree(folder, ignore_errors=True)
        self.labctl("export", str(folder), check=False)


def condition(thing: dict, kind: str) -> str:
    return next((c["status"] for c in thing.get("status", {}).get("conditions", []) if c["type"] == kind), "")


def crowded() -> float:
    """How many times slower this host is since others want its processors, too: 1 if there is one for everybody, and at most 5."""
    return min(5.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def wait(look, what: str, timeout_s: float = 20.0):
    """Wait until `look()` is true; answers what it answered. AssertionError says what never happened, and what was seen last.

    A field that an object does not have yet is waited for, too.
    """
    began = time.monotonic()
    while True:
        try:
            seen = look()
        except AssertionError as error:
            seen, last = None, str(error)
        except LookupError as error:
            seen, last = None, repr(error)
        else:
            last = repr(seen)
        if seen:
            return seen
        allowed_s = timeout_s * PATIENCE * crowded()
        if time.monotonic() - began > allowed_s:
            raise AssertionError(f"not within {allowed_s:.0f} s: {what}; last seen: {last[:500]}")
        time.sleep(0.05)


CLIENT = """
import http.client, json, select, sys, time
host, end, pause, keep = sys.argv[1], time.monotonic() + float(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "keep"
patience = float(sys.argv[5])
total = failed = reconnected = 0
good, longest, errors, connection = time.monotonic(), 0, [], None

def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    return None if answer.will_close else connection

def fresh():
    return ask(http.client.HTTPConnection(host, 80, timeout=patience))

def again(connection):
    # A server may close a connection that idles: a client that finds it closed asks on a new one (RFC 9110, 9.2.2).
    global reconnected
    try:
        return ask(connection)
    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
        reconnected += 1
        return fresh()

print("begun", flush=True)
while time.monotonic() < end and not select.select([sys.stdin], [], [], pause)[0]:
    total += 1
    try:
        connection = again(connection) if keep and connection else fresh()
        now = time.monotonic()
        longest, good = max(longest, now - good), now
    except Exception as error:
        connection = None
        failed += 1
        errors.append(repr(error)[:80])
longest = max(longest, time.monotonic() - good)
print(json.dumps({"total": total, "failed": failed, "reconnected": reconnected, "longest_ms": round(longest * 1000), "errors": errors[:5]}))
"""


@contextlib.contextmanager
def requests(cluster: Cluster, minion: str, host: str, seconds: float = 60.0, *, rate: float = 50.0, keep_alive: bool = False):
    """Keep asking a host from a minion, at most `rate` times a second, one try each, until the block ends; yields a dict filled at its end.

    `failed` counts the answers that were not 200, `longest_ms` is the longest stretch without a good one.
    """
    config = str(cluster.folder / ".labctl" / "ssh_config")
    words = ["python3", "-c", CLIENT, host, str(seconds * PATIENCE), str(1 / rate), "keep" if keep_alive else "new", str(PATIENCE)]
    client = subprocess.Popen(
        [*cluster.inside, "ssh", "-F", config, minion, shlex.join(words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment,
    )
    result: dict = {}
    try:
        assert client.stdout.readline().strip() == "begun", client.stderr.read()
        yield result
        out, err = client.communicate("stop\n", timeout=30 * PATIENCE)
        assert out.strip(), err
        result.update(json.loads(out))
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
