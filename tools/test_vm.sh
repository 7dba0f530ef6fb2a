#!/bin/sh
# `make test-vm`: the scenarios on real virtual machines, set-up included. What is fetched or built from packages is made first, because the
# network namespace of libvirtd, the machines and the tests has no access to other networks. Arguments go to pytest; without any, the whole VM suite runs.
set -eu
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
PATH=$PWD/$bin:$PATH
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

(cd "$scratch" && labctl box build && labctl image build nginx busybox serve-hostname)
python -m tests.existing "${LABCTL_CACHE_HOME:-/var/cache/labctl}" sudo || echo "test-vm: without sudo's package, machines that exist are tried through one uplink only" >&2
python -m pip wheel -q --disable-pip-version-check --no-deps -w "$scratch/wheel" .
export LABCTL_TEST_PROVIDER=vagrant LABCTL_TEST_WHEEL="$scratch/wheel" LABCTL_TEST_IMAGES=built LABCTL_TEST_PATIENCE="${LABCTL_TEST_PATIENCE:-4}"
if [ $# -gt 0 ]; then
    sh tools/vm_env.sh python -m pytest "$@"
else
    # scenarios wait more than they compute: two processes, each beside a libvirtd of its own. Boots take long, so files share labs (SHARED_LABS in
    # tests/conftest.py): the lab that is used longest comes first, and in it the file that destroys it last
    home=${LABCTL_VM_HOME:-/var/tmp/labctl-vm}
    side() { echo "popen//python=env LABCTL_VM_HOME=$home-$1 sh tools/vm_env.sh python"; }
    python -m pytest tests/e2e/test_survives.py tests/e2e/test_vagrant_victims.py tests/e2e/test_core.py tests/e2e/test_vagrant.py \
        tests/e2e/test_seed.py tests/contract/test_provider.py tests/vm \
        --dist loadscope --no-loadscope-reorder --tx "$(side 1)" --tx "$(side 2)" --durations=15
fi
