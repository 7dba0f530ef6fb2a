"""What `labctl up` does first with machines that exist already: pin host keys, install packages, find the way to the master.

pin       If lab.yml gives no host key, the one that answers now is pinned, a line says so, and from then on no other is accepted.
install   Only if asked for, missing packages are installed by apt-get; they are noted there, and `destroy` purges them.
uplink    It is direct if every machine reaches an address of this host; otherwise the machines reach the master through their SSH
connections.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from labctl.errors import LabctlError, ProviderError
from labctl.providers.settings import SshMachine, SshSettings
from labctl.providers.ssh import shell
from labctl.providers.ssh.look import Facts, look
from labctl.providers.ssh.records import Record, Records

Say = Callable[[str], None]

REACH = """
exec /usr/bin/python3 - "$@" <<'PYTHON'
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3) as connection:
    connection.sendall(sys.argv[3].encode())
PYTHON
"""


def prepare(settings: SshSettings, records: Records, say: Say) -> Mapping[str, Any]:
    """Prepare every machine, one after another, so that people can follow what is done to their machines.

    Return the uplink that was chosen.
    """
    facts = {}
    for machine in settings.machines:
        known = records.host_key(machine)
        facts[machine.name] = look(machine, settings, known)
        if not known:
            _pin(machine, facts[machine.name].host_key, records, say)
        if settings.prepare and facts[machine.name].packages(settings.network):
            _install(machine, facts[machine.name], settings, say)
    return _uplink(settings, facts, say)


def _pin(machine: SshMachine, host_key: str, records: Records, say: Say) -> None:
    if not host_key:
        raise ProviderError(f"{shell.where(machine)} showed no host key")
    records.put(Record(machine, host_key))
    say(f"{machine.name}: pinned its SSH host key on first use: {fingerprint(host_key)}")


def fingerprint(host_key: str) -> str:
    """Return the fingerprint as ssh-keygen -l prints it."""
    kind, blob = host_key.split()[:2]
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")
    return f"{kind} SHA256:{digest}"


def _install(machine: SshMachine, facts: Facts, settings: SshSettings, say: Say) -> None:
    packages = facts.packages(settings.network)
    say(f"{machine.name}: apt-get install {' '.join(packages)}")
    shell.run(machine, settings, shell.script("install"), *packages, host_key=facts.host_key, deadline_s=settings.prepare_deadline_s)


def _uplink(settings: SshSettings, facts: Mapping[str, Facts], say: Say) -> Mapping[str, Any]:
    if settings.uplink == "reverse" or (settings.uplink == "direct" and settings.master_address):
        return {}
    address = settings.master_address or _own_address(settings.machines[0])
    failed = next((machine.name for machine in settings.machines if not _reaches(machine, facts[machine.name], settings, address)), "")
    if failed and settings.uplink == "direct":
        raise ProviderError(
            f"{failed} does not reach this host at {address}", mend="set master_address in lab.yml, open port 6443, or uplink: reverse"
        )
    if failed:
        say(f"uplink: reverse, through the SSH connections ({failed} does not reach {address})")
        return {"uplink": "reverse"}
    say(f"uplink: direct, at {address}")
    return {"uplink": "direct", "master_address": address}


def _own_address(machine: SshMachine) -> str:
    """Return this host's address towards that machine. The routing table is asked; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((machine.address, 9))
            return str(probe.getsockname()[0])
        except OSError as error:
            raise ProviderError(f"{machine.name}: there is no way to {machine.address}: {error.strerror}") from None


def _reaches(machine: SshMachine, facts: Facts, settings: SshSettings, address: str) -> bool:
    """Tell whether the machine can connect to an address of this host.

    It sends a word, which shows that it reached this host and no other.
    """
    word = secrets.token_hex(8)
    try:
        listening = _listen(address)
    except OSError:
        return False
    with listening:
        heard: list[str] = []
        listener = threading.Thread(target=_hear, args=(listening, heard), daemon=True)
        listener.start()
        with suppress(LabctlError):
            port = str(listening.getsockname()[1])
            shell.run(machine, settings, REACH, address, port, word, host_key=facts.host_key)
        listener.join(3)
    return word in heard


def _listen(address: str) -> socket.socket:
    """Listen at the API's own port if it is free, because a firewall may allow only that one."""
    for port in (6443, 0):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, port))
        except OSError:
            listening.close()
            continue
        listening.listen(8)
        listening.settimeout(3)
        return listening
    raise OSError(f"no port of {address} can be listened on")


def _hear(listening: socket.socket, heard: list[str]) -> None:
    with suppress(OSError):
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(3)
            heard.append(connection.recv(100).decode(errors="replace"))
