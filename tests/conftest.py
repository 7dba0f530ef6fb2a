"""What several rooms' tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.inprocess import ApiServer
from tests.order import ByLab, LongestFirst
from tests.vm.labs import Lab

hypothesis.settings.register_profile(
    "labctl", hypothesis.settings(), deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("labctl")  # speed is measured in bench/; a test that is slow on a busy machine is right all the same

FAILING_EXAMPLES = Path(".hypothesis/failing-examples.txt")
"""What hypothesis found, by test; `.ci/run` prints it. Each run draws other examples, so one that fails must not be lost."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.failed:
        return
    _, found, example = report.longreprtext.partition("Failing test case: ")  # hypothesis' words
    if found:
        FAILING_EXAMPLES.parent.mkdir(exist_ok=True)
        with FAILING_EXAMPLES.open("a") as file:
            file.write(f"{report.nodeid}\n{found}{example}\n\n")


def pytest_configure() -> None:
    """A run means the same however it was begun: a shell's background job ignores Ctrl-C and some hosts forbid compiled files, and programs inherit both."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling labctl takes a master that starts longer than all else
    sys.dont_write_bytecode = False
    # kubectl is started thousands of times and ends within moments: it need not collect its garbage before 32 MB, which is a sixth of what it computes
    os.environ.setdefault("GOGC", "800")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Whole files, the longest first; `--dist loadscope` hands out together those that share a lab, in the order of the command line."""
    return {"loadscope": ByLab, "loadfile": LongestFirst}.get(config.getvalue("dist"), lambda *_: None)(config, log)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """A real API server on loopback, in the test's own loop."""
    async with ApiServer.running(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def provider_cache() -> Path:
    """Where root file systems are kept between test runs: building them is not what is tested."""
    return Path(os.environ.get("LABCTL_CACHE_HOME", "/var/cache/labctl"))


@pytest.fixture(scope="session")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two virtual machines, booted once for all whose test is what can happen to them: they put them right first."""
    lab = Lab(tmp_path_factory.mktemp("vm-lab"))
    try:
        lab.boot()
        yield lab
    finally:
        lab.provider.destroy_lab()
