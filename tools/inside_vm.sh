#!/bin/sh
# Runs in the machine of tools/test_in_vm.sh, on the disk that it was given: prepares it to host machines, and runs a command in the checkout.
set -eu
cd "$(dirname "$0")"
export DEBIAN_FRONTEND=noninteractive
dpkg --force-unsafe-io -i debs/*.deb >/var/log/debs.log 2>&1 || { cat /var/log/debs.log >&2; exit 1; }
systemctl start systemd-journald systemd-udevd # the box boots without them to be quick
mkdir -p /var/cache/labctl
mount --bind cache /var/cache/labctl
cp kubectl /usr/local/bin/
echo "$PWD/site" >/usr/local/lib/python3.11/dist-packages/labctl-tests.pth
export LABCTL_TEST_WHEEL="$PWD/wheel" LABCTL_TEST_IMAGES=built PYTHONPATH="$PWD/source"
cd source
exec "$@"
