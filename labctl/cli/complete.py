"""Shell completion: the names of minions and objects, and what kubectl itself completes for its own verbs.

The shell calls this at each Tab. So it is quick, it never starts a master, and an error gives no completions instead of a message.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from labctl.errors import LabctlError

Completions = list[CompletionItem]
_KUBECTL_S = 5.0
_KINDS = ("pod", "rc", "svc", "node")


def _never_fails(offer: Callable[..., Completions]) -> Callable[..., Completions]:
    """Wrap a completion function: where it fails, there is nothing to complete."""

    def wrapped(context: click.Context, parameter: click.Parameter, incomplete: str) -> Completions:
        try:
            return offer(context, parameter, incomplete)
        except (LabctlError, OSError, ValueError, subprocess.SubprocessError):
            return []

    return wrapped


def _lab() -> Any:
    from labctl.lab import Lab

    return Lab()


@_never_fails
def minions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completions:
    """Complete the machines that `up` made, without those that the command line names already."""
    from labctl.lab.ssh import hosts

    named = {word for value in context.params.values() for word in (value if isinstance(value, tuple) else (value,))}
    names = hosts(_lab().paths.ssh_config.read_text())
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in named]


@_never_fails
def objects(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completions:
    """Complete KIND/NAME with the names that kubectl completes."""
    kind, slash, name = incomplete.partition("/")
    if not slash:
        return [CompletionItem(f"{each}/") for each in _KINDS if each.startswith(kind)]
    namespace = context.params.get("namespace") or "default"
    return [CompletionItem(f"{kind}/{each.value}") for each in _kubectl(["get", "--namespace", namespace, kind, name])]


@_never_fails
def kubectl_words(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Completions:
    """Complete what `kubectl VERB ...` would complete."""
    return _kubectl([context.info_name or "", *context.params.get("arguments", ()), incomplete])


def _kubectl(words: list[str]) -> Completions:
    from labctl.lab.kubectl import find_kubectl

    lab = _lab()
    environment = {**os.environ, **({"KUBECONFIG": str(lab.kubeconfig)} if lab.exists else {})}
    said = subprocess.run(
        [find_kubectl(), "__complete", *words],
        env=environment,
        text=True,
        capture_output=True,
        timeout=_KUBECTL_S,
        stdin=subprocess.DEVNULL,
    ).stdout
    lines = [line.split("\t") for line in said.splitlines() if line and not line.startswith(":")]
    return [CompletionItem(word, help=" ".join(about) or None) for word, *about in lines]
