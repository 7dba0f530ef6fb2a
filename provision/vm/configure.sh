#!/bin/sh
# Makes a minion's root file system boot quickly as a virtual machine. Run in it, once, after minion.sh.
#
# The initrd (init) has set the name, the address and the keys before systemd starts, so sshd waits for nothing: it is wanted by
# a target of our own, beside a DHCP client for the hypervisor's first network. What an ordinary boot brings (journal, temporary
# files, ...) is started when the first ordinary unit asks for it. The console says which boot this is and by which host key it is known.
set -eu
units=/etc/systemd/system
mkdir -p "$units" /etc/systemd/system-generators

cat >"$units/labctl.target" <<'UNIT'
[Unit]
Description=A minion that answers
DefaultDependencies=no
Wants=labctl-sshd.service labctl-dhcp.service
UNIT
ln -sf labctl.target "$units/default.target"

cat >"$units/labctl-sshd.service" <<'UNIT'
[Unit]
Description=sshd, and the host key it has had since its first boot
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Environment=KEY=/etc/ssh/labctl_host_ed25519_key
ExecStartPre=/bin/sh -c 'mkdir -p /run/sshd; [ -s $KEY.pub ] || { rm -f $KEY; ssh-keygen -q -t ed25519 -N "" -C "" -f $KEY && sync; }'
ExecStartPre=/bin/sh -c 'read -r key <$KEY.pub; echo "labctl: host key $key" >/dev/console'
ExecStart=/usr/sbin/sshd -D -e
KillMode=process
Restart=always
RestartSec=200ms
StandardOutput=append:/var/log/labctl/sshd.log
StandardError=inherit
UNIT

cat >"$units/labctl-dhcp.service" <<'UNIT'
[Unit]
Description=An address on the hypervisor's own network, for Vagrant and for the way out
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
ConditionPathExists=/run/labctl-dhcp

[Service]
ExecStart=/bin/sh -c 'exec busybox udhcpc -f -S -i "$(cat /run/labctl-dhcp)" -s /usr/local/lib/labctl/udhcpc -t 10 -T 1 -A 2'
Restart=always
RestartSec=1s
StandardOutput=append:/var/log/labctl/dhcp.log
StandardError=inherit
UNIT

# The agent needs nothing of what an ordinary boot brings either: its own files are where it looks for them.
mkdir -p "$units/labctl-agent.service.d"
cat >"$units/labctl-agent.service.d/box.conf" <<'UNIT'
[Unit]
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
UNIT

for generator in /lib/systemd/system-generators/*; do
    ln -sf /dev/null "/etc/systemd/system-generators/$(basename "$generator")"
done
for unit in getty.target systemd-ask-password-wall.path systemd-ask-password-console.path systemd-binfmt.service systemd-firstboot.service \
    systemd-machine-id-commit.service systemd-pstore.service systemd-random-seed.service systemd-sysusers.service systemd-update-done.service \
    systemd-update-utmp.service systemd-journal-flush.service systemd-tmpfiles-clean.timer dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount modprobe@.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer ssh.service ssh.socket; do
    ln -sf /dev/null "$units/$unit"
done

mkdir -p /usr/local/lib/labctl
cat >/usr/local/lib/labctl/udhcpc <<'SCRIPT'
#!/bin/sh
# What udhcpc calls when a lease comes, is renewed or goes.
case $1 in
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "${router:-}" ] || ip route replace default via "${router%% *}" dev "$interface"
    for server in ${dns:-}; do echo "nameserver $server"; done >/etc/resolv.conf
    ;;
deconfig) ip address flush dev "$interface" ;;
esac
SCRIPT
chmod 0755 /usr/local/lib/labctl/udhcpc

# The hypervisor's clock is right; a pod's limits need the kernel's accounting, which systemd turns on for whom it delegates to.
mkdir -p /etc/systemd/system.conf.d /root/.ssh
chmod 0700 /root/.ssh
printf '[Manager]\nDefaultTimeoutStopSec=5s\nShowStatus=no\n' >/etc/systemd/system.conf.d/labctl.conf
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
: >/etc/fstab
