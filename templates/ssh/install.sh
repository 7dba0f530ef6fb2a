# Installs the packages named in its arguments, by apt-get, and notes which of them and of their dependencies were not installed before.
set -eu
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
here() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort; }
mkdir -p /etc/labctl
here >/etc/labctl/.before
apt-get update -q >&2 || true # an older package list may be good enough
apt-get install -q -y --no-install-recommends "$@" >&2
here | comm -13 /etc/labctl/.before - >>/etc/labctl/installed
rm -f /etc/labctl/.before
