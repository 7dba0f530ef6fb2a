"""Where the files that travel with labctl are: templates/, provision/, examples/seed/ and the Vagrantfile.

In a checkout they are the top-level folders; in a wheel they lie in `labctl/_assets/` (setup.py puts them there).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@cache
def root() -> Path:
    """The folder that holds templates/, provision/, examples/seed/ and Vagrantfile."""
    packed = _HERE / "_assets"
    return packed if packed.is_dir() else _HERE.parent


def template(name: str) -> Path:
    """A Jinja2 template: text for a machine (rules, units, configuration)."""
    return root() / "templates" / name


def provision(name: str) -> Path:
    """A shell script that makes a bare Debian a minion."""
    return root() / "provision" / name


def seed(name: str) -> Path:
    """A file of the scenario that labctl is made for: nginx-rc.yml, nginx-service.yml."""
    return root() / "examples" / "seed" / name


def agent_source() -> Path:
    """The agent's package folder, packed into a zipapp by `machines` (by path, never imported)."""
    return _HERE / "agent"
