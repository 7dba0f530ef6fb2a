"""What the Tab key offers: names of minions, of objects, and whatever kubectl itself offers for its own verbs.

Called by the shell at each Tab: quick, silent, and never starts a master or says an error.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from labctl.errors import LabctlError

Offer = list[CompletionItem]
_KUBECTL_S = 5.0
_KINDS = ("pod", "rc", "svc", "node")


def _quiet(offer: Callable[..., Offer]) -> Callable[..., Offer]:
    def wrapped(context: click.Context, parameter: click.Parameter, incomplete: str) -> Offer:
        try:
            return offer(context, parameter, incomplete)
        except (LabctlError, OSError, ValueError, subprocess.SubprocessError):
            return []

    return wrapped


def _lab() -> Any:
    from labctl.lab import Lab

    return Lab()


@_quiet
def minions(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Offer:
    """Machines that an `up` made; not those that are named already."""
    from labctl.lab.ssh import hosts

    named = {word for value in context.params.values() for word in (value if isinstance(value, tuple) else (value,))}
    names = hosts(_lab().paths.ssh_config.read_text())
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in named]


@_quiet
def objects(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Offer:
    """KIND/NAME, as kubectl knows them."""
    kind, slash, name = incomplete.partition("/")
    if not slash:
        return [CompletionItem(f"{each}/") for each in _KINDS if each.startswith(kind)]
    namespace = context.params.get("namespace") or "default"
    return [CompletionItem(f"{kind}/{each.value}") for each in _kubectl(["get", "--namespace", namespace, kind, name])]


@_quiet
def kubectl_words(context: click.Context, _parameter: click.Parameter, incomplete: str) -> Offer:
    """What `kubectl VERB ...` offers."""
    return _kubectl([context.info_name or "", *context.params.get("arguments", ()), incomplete])


def _kubectl(words: list[str]) -> Offer:
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
