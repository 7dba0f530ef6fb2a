"""The fields of a recipe, and reading one."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from labctl import assets
from labctl.decoding import from_values
from labctl.errors import UsageError


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"base": "from"}):
    """A recipe. `files` are taken out of `packages`; a trailing slash means the whole folder.

    `applets` is a busybox whose command names become links beside it.
    """

    base: str = ""
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    applets: str = ""
    users: dict[str, int] = {}
    directories: tuple[str, ...] = ()
    links: dict[str, str] = {}
    text: dict[str, str] = {}
    config: dict[str, Any] = {}


def names() -> list[str]:
    return sorted(path.stem for path in assets.provision("images").glob("*.yaml"))


def read(name: str) -> Recipe:
    """Read a recipe. If there is none of that name, UsageError lists those that exist."""
    if name not in names():
        raise UsageError(
            f"there is no recipe for {name}; there are {', '.join(names())}", mend="use `labctl image load` for your own images"
        )
    text = assets.provision(f"images/{name}.yaml").read_text()
    try:
        return from_values(yaml.safe_load(text), Recipe)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise UsageError(f"the recipe {name}.yaml is wrong: {error}") from error
