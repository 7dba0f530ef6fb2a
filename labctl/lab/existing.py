"""`machines:` of lab.yml: machines that exist already, as plain data with every default filled in.

    machines:
      - address: 192.168.1.21        # all that is needed where root's key is ~/.ssh/id_ed25519
      - {address: 192.168.1.22, user: pi, key: ~/.ssh/pi, name: minion-5}

settings.py calls this module, which never connects to a machine. The result goes into lab.json, so it holds only strings, numbers and booleans.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_NAME = re.compile(r"minion-([1-9]\d{0,2})")
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST_KEY = re.compile(r"(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]+( .*)?")
_USUAL_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_MACHINES_MAX = 200

Entry = dict[str, Any]


def machines(value: Any) -> list[Entry]:
    """Check each entry and fill in its defaults. ValueError says which entry is wrong and why."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("write a list of machines, each with its address")
    entries = [_entry(number, each) for number, each in enumerate(value, 1)]
    _number(entries)
    for name in ("name", "address"):
        seen = [(entry[name], entry["port"] if name == "address" else 0) for entry in entries]
        twice = [each[0] for each in seen if seen.count(each) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
    return sorted(entries, key=lambda entry: int(entry["name"].removeprefix("minion-")))


def place_keys(entries: list[Entry], folder: Path) -> list[Entry]:
    """Make relative paths of key files absolute; they are relative to the folder of lab.yml."""
    return [{**entry, "key": os.path.normpath(folder / entry["key"])} for entry in entries]


def _entry(number: int, given: Mapping[str, Any]) -> Entry:
    where = f"machine {number}"
    unknown = sorted(set(given) - set(_FIELDS) - {"sudo"})
    if unknown:
        raise ValueError(f"{where}: there is no {unknown[0]!r}; write {', '.join(_FIELDS)} or sudo")
    entry = {}
    for name, (read, default) in _FIELDS.items():
        try:
            entry[name] = read(given[name]) if given.get(name) is not None else default()
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: {name}: {error}") from None
    entry["sudo"] = given.get("sudo", entry["user"] != "root")
    if entry["sudo"] != (entry["user"] != "root"):
        raise ValueError(f"{where}: sudo is needed for every user but root, and for no other")
    return entry


def _number(entries: list[Entry]) -> None:
    """Give each entry without a name the lowest free one."""
    free = (name for name in (f"minion-{n}" for n in range(1, _MACHINES_MAX + 1)) if name not in [entry["name"] for entry in entries])
    for entry in entries:
        entry["name"] = entry["name"] or next(free, "")
    if not all(entry["name"] for entry in entries):
        raise ValueError(f"a lab has at most {_MACHINES_MAX} machines")


def _matching(pattern: re.Pattern[str], mend: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not pattern.fullmatch(str(value)):
            raise ValueError(mend)
        return str(value)

    return read


def _name(value: Any) -> str:
    match = _NAME.fullmatch(str(value))
    if not match or int(match[1]) > _MACHINES_MAX:
        raise ValueError(f"write minion-1 to minion-{_MACHINES_MAX}, or leave it out")
    return str(value)


def _port(value: Any) -> int:
    if not str(value).isdecimal() or not 0 < int(value) < 65536:
        raise ValueError("write a port from 1 to 65535")
    return int(value)


def _address() -> str:
    raise ValueError("write the address that its sshd answers at")


def _usual_key() -> str:
    """Return the first usual SSH key that the person has."""
    folder = Path("~/.ssh").expanduser()
    found = next((folder / name for name in _USUAL_KEYS if (folder / name).exists()), None)
    if not found:
        raise ValueError(f"there is none of {', '.join(_USUAL_KEYS)} in {folder}; write the file of a private key")
    return str(found)


_FIELDS: Mapping[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "name": (_name, str),
    "address": (_matching(_ADDRESS, "write an IPv4 address or a host's name"), _address),
    "port": (_port, lambda: 22),
    "user": (_matching(_USER, "write a user's name"), lambda: "root"),
    "key": (lambda value: str(Path(str(value)).expanduser()), _usual_key),
    "host_key": (_matching(_HOST_KEY, "write it as in its ssh_host_ed25519_key.pub: ssh-ed25519 AAAA..."), str),
}
"""The fields of an entry, besides `sudo`: the function that reads the value, and the one that makes the default."""
