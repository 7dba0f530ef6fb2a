"""What a person does to a cluster on purpose, for experiments: apply, scale, rollout restart, drain, uncordon, delete. The real kubectl does it.

A drain goes on beside the experiment, as in a terminal of its own; `end` waits for it, and ends it if that takes too long.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError
from labctl.lab.kubectl import find_kubectl

if TYPE_CHECKING:
    from labctl.experiments.stage import ActionRequest
    from labctl.lab.folder import LabFolder

_KUBECTL_S = 60.0
_END_S = 5.0


class Actions:
    """Carries out actions on one lab."""

    def __init__(self, lab: LabFolder) -> None:
        self._lab = lab
        self._beside: list[subprocess.Popen[bytes]] = []

    def take(self, action: ActionRequest) -> str:
        """Carry out an action, and return what was done."""
        if action.type == "apply":
            return self.apply(action.manifests)
        if action.type == "drain":
            return self._drain(action.target)
        if action.type == "uncordon":
            return self._kubectl("uncordon", action.target)
        kind, namespace, name = action.target.split("/")
        words = {
            "rollout-restart": ("rollout", "restart", f"{kind}/{name}"),
            "scale": ("scale", f"{kind}/{name}", f"--replicas={action.replicas}"),
            "delete": ("delete", f"{kind}/{name}", "--wait=false"),
        }
        return self._kubectl(*words[action.type], "--namespace", namespace)

    def apply(self, manifests: Sequence[Mapping[str, Any]]) -> str:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self._kubectl("apply", "-f", "-", input=json.dumps(listed))

    def _drain(self, minion: str) -> str:
        words = ("drain", minion, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        environment = {**self._lab.environment, "KUBECONFIG": str(self._lab.kubeconfig)}
        quiet = subprocess.DEVNULL
        self._beside.append(subprocess.Popen([find_kubectl(), *words], env=environment, stdin=quiet, stdout=quiet, stderr=quiet))
        return f"kubectl {' '.join(words)}"

    def _kubectl(self, *words: str, **options: Any) -> str:
        try:
            done = self._lab.kubectl(*words, check=False, timeout=_KUBECTL_S, **options)
        except subprocess.TimeoutExpired:
            raise LabctlError(f"kubectl {' '.join(words)} did not end within {_KUBECTL_S:.0f} s") from None
        if done.returncode:
            raise LabctlError(f"kubectl {' '.join(words)}: {' '.join(done.stderr.split())[:500]}")
        return f"kubectl {' '.join(words)}: {'; '.join(done.stdout.split(chr(10))).strip('; ')}"[:1_000]

    def end(self) -> None:
        """Wait until what goes on beside has ended, and end what does not end by itself."""
        while self._beside:
            process = self._beside.pop()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
