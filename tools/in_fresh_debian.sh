#!/bin/sh
# `make test-fresh`: a command in a fresh Debian 12 with git, make and python3.11 and nothing else, where this commit is checked out below /root.
# What happens to be on this host, such as packages or another Python, hides what labctl is missing; and people have the newest Python of Debian. As root; the
# command begins after about a minute. Arguments are the command; without any, `make test` runs. Nothing is left when it ends, and nothing is mounted on the host.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- make test
scratch=$(mktemp -d -p /var/tmp labctl-fresh.XXXXXX)
trap 'rm -rf --one-file-system "$scratch"' EXIT
trap 'exit 130' INT TERM
root=$scratch/root

echo "fresh: making a Debian 12" >&2
mmdebstrap --quiet --variant=apt --include=git,make,python3.11,ca-certificates bookworm "$root"
# where packages come from, and whose certificates count there, is this host's affair
rm -rf "$root"/etc/apt/sources.list*
for path in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d/*proxy* /etc/pip.conf "$HOME/.config/pip" /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf /etc/hosts; do
    [ ! -e "$path" ] || { mkdir -p "$root${path%/*}" && cp -aL "$path" "$root${path%/*}/"; }
done
git clone -q . "$root/root/labctl"

# shellcheck disable=SC2016 - the variables are those of the shell within
exec_within='
cd "$0"
mount --make-rprivate / && mount --bind . . && cd "$0"
mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev && mount -t tmpfs tmpfs run
mkdir -p host && pivot_root . host
python3.11 -c "import ctypes; exit(ctypes.CDLL(None).umount2(b\"/host\", 2))"  # detached: it goes when nobody uses it
cd /root/labctl
exec env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" CI="${CI:-}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$@"'
unshare --mount --pid --fork --kill-child sh -euc "$exec_within" "$root" "$@"
