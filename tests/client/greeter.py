"""An operator as other people write them, run by kopf's own command line in test_kopf.py: it greets each ConfigMap that asks for it."""

from __future__ import annotations

from typing import Any

import kopf

ASKS = {"greet": "yes"}


@kopf.on.startup()
def settings_of(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = "example.com/greeter"


@kopf.on.create("v1", "configmaps", labels=ASKS)
def greet(patch: kopf.Patch, body: kopf.Body, **_: Any) -> None:
    patch.setdefault("data", {})["greeting"] = "hello"
    kopf.info(body, reason="Greeted", message="hello")


@kopf.on.update("v1", "configmaps", field="data.name", labels=ASKS)
def greet_by_name(new: Any, patch: kopf.Patch, **_: Any) -> None:
    patch.setdefault("data", {})["greeting"] = f"hello {new}"


@kopf.on.delete("v1", "configmaps", labels=ASKS)
def say_goodbye(body: kopf.Body, **_: Any) -> None:
    kopf.info(body, reason="Left", message="goodbye")
