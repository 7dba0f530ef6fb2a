#!/bin/sh
# `make test-in-vm`: the namespace provider's scenarios inside a virtual machine, which has what this host may lack: systemd as process 1,
# cgroup version 2 alone, a kernel with modules, udev. Set-up included. Arguments go to pytest there; without any, what fits into ten minutes runs.
# The machine has no access to other networks, so everything that it needs is collected in a folder, from which a disk is made for tools/in_vm.py.
set -eu
cd "$(dirname "$0")/.."
networks="route bgp ovs"
[ $# -gt 0 ] || { networks=route && set -- tests/providers/test_cgroup.py tests/e2e/test_seed.py; }
bin=$PWD/${VENV:-.venv}/bin
PATH=$bin:$PATH
cache=${LABCTL_CACHE_HOME:-/var/cache/labctl}
scratch=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
disk=$scratch/disk
mkdir -p "$disk/cache/rootfs" "$disk/debs/partial" "$disk/source"

(cd "$scratch" && labctl box build && labctl image build nginx busybox serve-hostname)
python -m pip wheel -q --disable-pip-version-check --no-deps -w "$disk/wheel" .
git ls-files -z labctl tests provision examples templates docs README.md pyproject.toml Vagrantfile | xargs -0 cp --parents -t "$disk/source"
python -m compileall -q "$disk/source" # takes many times as long there
cp "$bin/kubectl" tools/inside_vm.sh "$disk/"
cp -a "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" "$disk/site"
rm -r "$disk"/site/*labctl*
cp -a "$cache/apt" "$cache/blobs" "$cache/images.json" "$disk/cache/"

# what machines start from there; the packages that a host of machines needs and a minion (the box) doesn't have; and udev, which the box lacks
# but which on most hosts looks at each network device that a lab makes
python - "$cache" $networks >"$scratch/roots" <<'PYTHON'
import sys
from pathlib import Path
from labctl.providers.namespace.box import Box
from labctl.providers.settings import NamespaceSettings
for network in sys.argv[2:]:
    print(Box(Path(sys.argv[1]), NamespaceSettings(pod_network=network)).get(lambda line: print(line, file=sys.stderr)))
PYTHON
while read -r root; do cp -a "$root" "$disk/cache/rootfs/"; done <"$scratch/roots"
# shellcheck disable=SC2046 # one package per word
apt-get install -qq -y --no-install-recommends --download-only -o "Dir::State::status=$(head -n 1 "$scratch/roots")/var/lib/dpkg/status" \
    -o "Dir::Cache::archives=$disk/debs" -o APT::Sandbox::User=root udev $(python -m labctl.lab.requirements --only namespace) >/dev/null

mke2fs -q -t ext4 -m 0 -E lazy_itable_init=1 -d "$disk" "$scratch/disk.img" 8G
rm -rf "$disk"
sh tools/vm_env.sh python tools/in_vm.py "$cache" "$scratch/disk.img" sh /labctl/inside_vm.sh \
    env "LABCTL_TEST_PATIENCE=${LABCTL_TEST_PATIENCE:-6}" python3 -m pytest -p no:cacheprovider -m '' "$@"
