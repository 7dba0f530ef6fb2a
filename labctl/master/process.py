"""The master's process: the lock, the log, the certificates, the sockets and the signals around `Master`.

    lock ─► store ─► API on loopback ─► "ready" to the waiting process ─► controllers ─► the lab's network, SSH, machines

The API comes first, for people. Machines follow, because they take longer and need the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labctl.api.identity import server_context
from labctl.certificates import Authority, kubeconfig, write_file
from labctl.clock import SystemClock
from labctl.errors import LabctlError
from labctl.journal import Journal, MemoryJournal
from labctl.master import takeover
from labctl.master.keys import ssh_key
from labctl.master.master import Master, Tools
from labctl.master.settings import MasterSettings, read_settings
from labctl.master.takeover import Ending, Pipes
from labctl.paths import Paths
from labctl.providers.factory import make_provider
from labctl.remote.child import SshChild
from labctl.store.settings import StoreSettings
from labctl.store.sqlite import sqlite_store
from labctl.supervisor import Supervisor
from labctl.tokens import TokenKeys

log = logging.getLogger("labctl.master")

NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
OPEN_FILES_MAX = 65_536  # open files; each watch, stream and client needs one


def run(lab: Path, pipes: Pipes, begun: float, *, hold: bool) -> Pipes | None:
    """Be the master of the lab in this `.labctl` folder until a signal ends it. Raises LabctlError where it can't begin.

    With `hold` the machines are left alone until something can be read from `pipes.go`: a snapshot is just being put in their place. If that never
    comes, because whoever restores it was killed, this master ends. `begun` is when this process began, in seconds since 1970. If the signal was
    the one of `takeover`, return the pipes of its next life.
    """
    settings = read_settings(lab)
    _log_to_stderr()
    ending = Ending()
    with _hold_lock(settings.paths):
        _raise_file_limit()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, pipes, begun, ending, hold=hold))
    if pipes.go >= 0:
        os.close(pipes.go)
    if not ending.takes_over:
        return None
    return takeover.begin_anew(settings.paths)


async def _serve(settings: MasterSettings, pipes: Pipes, process_begun: float, ending: Ending, *, hold: bool) -> None:
    paths, clock = settings.paths, SystemClock()
    begun = clock.now()
    ending.listen()
    listening = _listen(settings)
    port = listening.getsockname()[1]
    authority = Authority.create(paths.certificates, settings.id, clock)
    tls = _tls(authority, settings)
    admin = asyncio.ensure_future(asyncio.to_thread(authority.admin))  # beside the rest: its RSA key takes 30 ms
    store = sqlite_store(paths.store, StoreSettings())
    journal = MemoryJournal(clock, paths.journal)
    supervisor = Supervisor(clock, journal)
    tools = _tools(settings, authority, journal, supervisor, pipes.ssh) if settings.values.provider else None
    tokens = TokenKeys(paths.token_keys)
    master = Master(settings, store, clock, journal, tls=tls, tools=tools, supervisor=supervisor, tokens=tokens, authority=authority)
    await master.start([listening])
    write_file(paths.kubeconfig, kubeconfig(f"https://127.0.0.1:{port}", authority.certificate_pem, await admin, name=settings.id))
    _write_run_file(settings, port, process_begun)
    log.info("answering on port %d after %.2f s", port, clock.now() - begun)
    if pipes.ready >= 0:
        with contextlib.suppress(BrokenPipeError):  # the waiting process was killed
            os.write(pipes.ready, b"ready")
        os.close(pipes.ready)
    if not hold or await _wait_for_release(pipes.go, ending.told, master.count_silence_from_now):
        master.run_machines()
        await asyncio.to_thread(tokens.warm)  # beside the machines' boot: the first pod asks for a token
        await ending.told.wait()
    log.info("stopping")
    await master.stop()
    with contextlib.suppress(FileNotFoundError):
        paths.master_run.unlink()


async def _wait_for_release(descriptor: int, stop: asyncio.Event, meanwhile: Callable[[], None], every_s: float = 0.5) -> bool:
    """Wait until the machines are in place. Return False if they never will be, or if this process was asked to end.

    `meanwhile` is called again and again, and at the end.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(descriptor, told.set)
    waiting = [asyncio.ensure_future(told.wait()), asyncio.ensure_future(stop.wait())]
    while not (await asyncio.wait(waiting, timeout=every_s, return_when=asyncio.FIRST_COMPLETED))[0]:
        meanwhile()
    meanwhile()
    loop.remove_reader(descriptor)
    for task in waiting:
        task.cancel()
    return told.is_set() and bool(os.read(descriptor, 1))


def _tools(settings: MasterSettings, authority: Authority, journal: Journal, supervisor: Supervisor, ssh: SshChild | None) -> Tools:
    from labctl.images.images import Images
    from labctl.images.settings import ImageSettings
    from labctl.remote.process import SshProcess
    from labctl.remote.settings import RemoteSettings

    paths, values = settings.paths, settings.values
    return Tools(
        provider=make_provider(values.provider, settings.id, paths.state, paths.cache, folder=paths.lab.parent, settings=values.by_name()),
        remote=SshProcess(RemoteSettings(), journal, supervisor=supervisor, begun=ssh),
        authority=authority,
        authorized_key=ssh_key(paths.ssh_key),
        images=Images(paths, ImageSettings(mirrors={name: tuple(hosts) for name, hosts in values.mirrors.items()}, proxy=settings.proxies)),
    )


def _listen(settings: MasterSettings) -> socket.socket:
    """Return the loopback socket: on the port of before if there is one, else on a free port."""
    port = settings.values.api_port or _kept_port(settings.paths)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        raise LabctlError(f"port {port} on loopback can't be used: {error.strerror}", mend="free it, or labctl up --api-port 0") from None
    listening.listen(1024)
    listening.setblocking(False)
    return listening


def _kept_port(paths: Paths) -> int:
    """Return the port of this lab's last master, so that copied kubeconfigs still work. It is 0 if there was none or it is taken."""
    try:
        port = int((paths.state / "port").read_text())
    except (OSError, ValueError):
        return 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _tls(authority: Authority, settings: MasterSettings) -> ssl.SSLContext:
    authority.server(NAMES, ("127.0.0.1", settings.lab_address, settings.service_address))
    folder = settings.paths.certificates
    return server_context(folder / "ca.crt", folder / "server.crt", folder / "server.key")


def _write_run_file(settings: MasterSettings, port: int, process_begun: float) -> None:
    paths = settings.paths
    said = {
        "begun": process_begun,
        "python": sys.executable,
        "startsOver": settings.values.provider in takeover.PROVIDERS,
        "pid": os.getpid(),
        "url": f"https://127.0.0.1:{port}",
        "port": port,
        "started": time.time(),
        "settings": settings.values.process(),
    }
    write_file(paths.master_run, json.dumps(said), 0o644)
    write_file(paths.state / "port", str(port), 0o644)


@contextlib.contextmanager
def _hold_lock(paths: Paths) -> Iterator[None]:
    """Hold the lab's master lock, with our process id in it, until this process ends."""
    paths.state.mkdir(parents=True, exist_ok=True)
    with open(paths.state / "master.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabctlError("this lab's master is running already", mend="labctl status") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
