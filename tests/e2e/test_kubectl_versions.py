"""Old and new kubectl, as their makers built them, at a container that really runs: logs, exec, cp, attach and port-forward.

Those before 1.29 speak SPDY. What needs no container is in tests/client/test_kubectl_versions.py.
"""

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.cluster import PATIENCE
from tests.e2e.test_workloads import pod, running
from tests.kubectls import VERSIONS, fetch

SERVES = "mkdir -p /www; echo hello > /www/index.html; echo begun; echo late >&2; exec httpd -f -p 8080 -h /www"


@pytest.fixture(scope="module")
def serving(cluster):
    cluster.kubectl("create", "-f", "-", input=json.dumps(pod("serves", "sh", "-c", SERVES)))
    running(cluster, "serves")
    yield cluster
    cluster.clear()


@pytest.mark.parametrize("version", VERSIONS)
def test_streams(serving, provider_cache, tmp_path, version):
    binary = fetch(Path(provider_cache), version, "kubectl")
    environment = {
        "PATH": os.environ["PATH"],
        "GOGC": os.environ["GOGC"],
        "HOME": str(tmp_path),
        "KUBECONFIG": str(serving.folder / ".labctl" / "kubeconfig"),
    }

    def kubectl(*arguments: str, code: int = 0, **options) -> str:
        done = subprocess.run(
            [binary, *arguments], env=environment, capture_output=True, text=True, timeout=60 * PATIENCE, check=False, **options
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout

    assert kubectl("logs", "serves").splitlines()[:2] == ["begun", "late"]
    assert kubectl("logs", "serves", "--tail=1", "--timestamps").strip().endswith("late")
    assert kubectl("exec", "serves", "--", "echo", "hello") == "hello\n"
    assert kubectl("exec", "-i", "serves", "--", "cat", input="through\n") == "through\n"
    kubectl("exec", "serves", "--", "sh", "-c", "exit 7", code=7)
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1024)
    kubectl("cp", str(tmp_path / "file"), "serves:/tmp/file")
    kubectl("cp", "serves:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    argv = [binary, "port-forward", "serves", ":8080", "--address=127.0.0.1"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as forward:
        try:
            local = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=20 * PATIENCE) as answer:
                assert answer.read() == b"hello\n"
        finally:
            forward.terminate()
