#!/bin/sh
# Makes the running bare Debian (a VM, a box being built, your own machine) a minion: packages, then minion.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2046 -- one word per package is what is wanted
apt-get install -q -y --no-install-recommends $(sed '/^#/d' "$here/packages")
sh "$here/minion.sh"
