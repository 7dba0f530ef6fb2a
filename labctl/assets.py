"""This module finds the files that are installed with labctl: templates/, provision/, examples/ and the Vagrantfile.

In a checkout they are the top-level folders; in a wheel they lie in `labctl/_assets/` (setup.py puts them there).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@cache
def root() -> Path:
    """Returns the folder that holds templates/, provision/, examples/ and the Vagrantfile."""
    packed = _HERE / "_assets"
    return packed if packed.is_dir() else _HERE.parent


def template(name: str) -> Path:
    """Returns the path of a Jinja2 template for a file on a machine (rules, units, configuration)."""
    return root() / "templates" / name


def provision(name: str) -> Path:
    """Returns the path of a file in provision/: shell scripts that turn a bare Debian into a minion, and image definitions."""
    return root() / "provision" / name


def seed(name: str) -> Path:
    """Returns the path of a file of the scenario that labctl was made for: nginx-rc.yml, nginx-service.yml."""
    return root() / "examples" / "seed" / name


def experiments() -> Path:
    """Returns the folder of the example experiments."""
    return root() / "examples" / "experiments"


def agent_source() -> Path:
    """Returns the agent's package folder. `machines` packs it into a zipapp by its path, and never imports it."""
    return _HERE / "agent"
