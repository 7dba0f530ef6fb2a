"""Fetch Kubernetes' sources as Debian's package has them, and build the tests and the programs of their images."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGES = ("golang-go", "mmdebstrap")
PROGRAMS = {
    "agnhost": "./test/images/agnhost",
    "consumer": "./test/images/resource-consumer",
    "consume-cpu": "./test/images/resource-consumer/consume-cpu",
    "nnp": "./test/images/nonewprivs",
    "regression": "./test/images/regression-issue-74839",
    "kube-sample-apiserver": "./vendor/k8s.io/sample-apiserver",
    "kubectl": "./cmd/kubectl",
}
_VERSION = " ".join(  # a test looks at what kubectl says of itself, which only such a build knows
    f"-X k8s.io/kubernetes/vendor/k8s.io/{package}.{name}={value}"
    for package in ("component-base/version", "client-go/pkg/version")
    for name, value in (("gitMajor", "1"), ("gitMinor", "20"))
)
_DATA = ("test/conformance/testdata", "test/e2e/testing-manifests", "test/e2e_node/testing-manifests", "test/images", "test/fixtures")
# Kubernetes 1.24 stopped making a Secret with a token for each ServiceAccount; these tests begin only when there is one.
_AWAITED = (
    "test/e2e/framework/util.go",
    ("switch t := event.Object.(type) {", "switch event.Object.(type) {"),
    ("len(t.Secrets) > 0", "true"),
)


class Source:
    """The sources below `folder`, and what is built of them in `folder/bin`. Each step is skipped where its result is there."""

    def __init__(self, folder: Path, progress: Callable[[str], None]) -> None:
        self.folder = folder
        self.tree = folder / "go/src/k8s.io/kubernetes"
        self.bin = folder / "bin"
        self._progress = progress

    def build(self) -> None:
        self._fetch()
        self.bin.mkdir(exist_ok=True)
        for name, package in PROGRAMS.items():
            self._go(name, "build", package)
        self._embed()
        self._go("e2e.test", "test", "./test/e2e", "-c")

    def _fetch(self) -> None:
        if self.tree.exists():
            return
        self._progress("installing Go, fetching Kubernetes' sources")
        run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], quiet=True)
        scratch = self.folder / "fetched"
        (scratch / "lists/partial").mkdir(parents=True, exist_ok=True)
        (scratch / "sources.list").write_text("\n".join(_archives()) + "\n")
        apt = [
            "apt-get",
            "-o",
            f"Dir::Etc::sourcelist={scratch}/sources.list",
            "-o",
            "Dir::Etc::sourceparts=-",
            "-o",
            f"Dir::State::lists={scratch}/lists",
        ]
        run([*apt, "update"], quiet=True)
        run([*apt, "source", "--download-only", "kubernetes"], cwd=scratch, quiet=True)
        unpacked = scratch / "kubernetes"
        unpacked.mkdir(exist_ok=True)
        run(["tar", "-xf", str(next(scratch.glob("*.orig.tar.*"))), "--strip-components=1", "-C", str(unpacked)])
        path, *changes = _AWAITED
        text = (unpacked / path).read_text()
        for old, new in changes:
            assert text.count(old) >= 1, f"{path} has no {old!r}: these are other sources than this tool knows"
            text = text.replace(old, new)
        (unpacked / path).write_text(text)
        self.tree.parent.mkdir(parents=True, exist_ok=True)
        unpacked.rename(self.tree)

    def _embed(self) -> None:
        """Make the Go file that holds the tests' manifests."""
        made = self.tree / "test/e2e/generated/bindata.go"
        if not made.exists():
            self._go("go-bindata", "build", "./vendor/github.com/go-bindata/go-bindata/go-bindata")
            ignored = [word for pattern in (r"\.jpg", r"\.png", r"\.md", r"BUILD(\.bazel)?") for word in ("-ignore", pattern)]
            folders = [f"{each}/..." for each in _DATA if (self.tree / each).is_dir()]
            run([str(self.bin / "go-bindata"), "-nometadata", "-o", str(made), "-pkg", "generated", *ignored, *folders], cwd=self.tree)

    def _go(self, name: str, verb: str, package: str, *more: str) -> None:
        if (self.bin / name).exists():
            return
        self._progress(f"building {name}")
        environment = {"GOPATH": str(self.folder / "go"), "GOCACHE": str(self.folder / "gocache"), "GO111MODULE": "off", "CGO_ENABLED": "0"}
        run(["go", verb, *more, f"-ldflags={_VERSION}", "-o", str(self.bin / name), package], cwd=self.tree, environment=environment)


def run(argv: Sequence[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None, quiet: bool = False) -> None:
    subprocess.run(argv, cwd=cwd, env={**os.environ, **(environment or {})}, check=True, stdout=subprocess.DEVNULL if quiet else None)


def _archives() -> list[str]:
    """Return the lines of the archives of sources that belong to the archives of packages that this machine uses."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)", "Created-By: Packages"]
    rows = {tuple(line.split()) for line in subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()}
    return sorted(f"deb-src {uri} {codename} {component}" for uri, codename, component, origin in rows if origin == "Debian")
