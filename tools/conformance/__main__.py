"""Build what is missing, start a lab of two namespace machines, play the tests, say what became of them, remove the lab. As root."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.conformance.images import REGISTRIES, archive
from tools.conformance.source import Source, run

GROUPS = (  # each is played by a process of its own, one test after the other; what is [Serial] is played when the others are done
    r"\[sig-api-machinery\]",
    r"\[sig-(apps|cli|instrumentation|auth|scheduling)\]",
    r"\[k8s\.io\]|\[sig-node\]",
    r"\[sig-(network|storage)\]",
)
CONFORMANCE = r"\[Conformance\]"
ALONE = r"\[Serial\]|\[Disruptive\]"
OLD = {  # tests of 1.20 that no Kubernetes of today passes, and why
    "ServiceAccounts should mount an API token into pods": "they wait for a Secret that ServiceAccounts have not had since Kubernetes 1.24",
    "ServiceAccounts should allow opting out of API token automount": "they wait for a Secret that ServiceAccounts have not had since Kubernetes 1.24",
    "Events API should ensure that an event can be fetched": "it changes an Event's note, which events.k8s.io/v1 refuses since it compares with the old Event",
    "should update pod when spec was updated and update strategy is RollingUpdate": "it compares a revision's bytes with those of old types, which had `creationTimestamp: null`",
}
_RESULT = re.compile(r'^.?\{"msg":"(PASSED|FAILED) (.*?)","total"', re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    parser.add_argument("--focus", default="", help="only tests whose names match this pattern, also those that are not [Conformance]")
    parser.add_argument("--folder", type=Path, default=Path("/var/cache/labctl/conformance"), help="what is built is kept here; 3 GB")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    source = Source(asked.folder.absolute(), lambda text: print(f"   {text}", flush=True))
    source.build()
    lab = source.folder / "lab"
    lab.mkdir(exist_ok=True)
    environment = {"LABCTL_STATE_HOME": str(source.folder / "state")}
    labctl = [sys.executable, "-m", "labctl"]
    run([*labctl, "image", "load", str(archive(source))], cwd=lab, environment=environment, quiet=True)
    try:
        run([*labctl, "up", "--minions", "2"], cwd=lab, environment=environment)
        results = _played(source, lab / ".labctl/kubeconfig", asked.focus)
    finally:
        run([*labctl, "destroy"], cwd=lab, environment=environment)
    return _said(results)


def _played(source: Source, kubeconfig: Path, focus: str) -> dict[str, str]:
    """Return what became of each test, by its name."""
    if focus:
        return _play(source, kubeconfig, "focus", focus, "$^")
    results: dict[str, str] = {}
    with concurrent.futures.ThreadPoolExecutor(len(GROUPS)) as pool:
        parts = [pool.submit(_play, source, kubeconfig, str(n), f"({group}).*{CONFORMANCE}", ALONE) for n, group in enumerate(GROUPS)]
        for part in parts:
            results |= part.result()
    return results | _play(source, kubeconfig, "alone", f"({ALONE}).*{CONFORMANCE}|{CONFORMANCE}.*({ALONE})", "$^")


def _play(source: Source, kubeconfig: Path, name: str, focus: str, skip: str) -> dict[str, str]:
    log = source.folder / f"{name}.log"
    old = "|".join(map(re.escape, OLD))
    argv: Sequence[str] = [
        str(source.bin / "e2e.test"), f"-kubeconfig={kubeconfig}", "-provider=local", f"-ginkgo.focus={focus}", f"-ginkgo.skip={skip}|{old}",
        "-ginkgo.noColor", "-num-nodes=2", f"-repo-root={source.tree}", f"-kubectl-path={source.bin / 'kubectl'}", "-node-os-distro=debian",
        "-disable-log-dump=true", "-dump-logs-on-failure=false",
    ]  # fmt: skip
    registries = source.folder / "registries.yaml"
    registries.write_text(json.dumps(REGISTRIES))
    environment = {**os.environ, "KUBE_TEST_REPO_LIST": str(registries)}
    with open(log, "wb") as out:
        ended = subprocess.run(argv, cwd=source.tree / "test/e2e", stdout=out, stderr=subprocess.STDOUT, env=environment, check=False)
    text = log.read_text(errors="replace")
    results = {json.loads(f'"{found[2]}"'): found[1] for found in _RESULT.finditer(text)}
    if ended.returncode and "FAILED" not in results.values():
        results[f"the run of {name} ended with {ended.returncode}, see {log}"] = "FAILED"
    print(f"   {name}: {list(results.values()).count('PASSED')} passed, {list(results.values()).count('FAILED')} failed", flush=True)
    return results


def _said(results: dict[str, str]) -> int:
    failed = sorted(name for name, result in results.items() if result == "FAILED")
    for name in failed:
        print(f"FAILED {name}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed; left out, as too old: {len(OLD)}")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
