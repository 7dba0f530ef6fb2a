#!/bin/sh
# Runs a command with a libvirtd of its own, in a network and mount namespace that end with it: tools/vm_env.sh COMMAND...
# For tests of the vagrant provider: nothing of it touches the host's libvirt, network or /etc. Needs root and the packages of
# `python -m labctl.lab.requirements --vm`. What it keeps (pools, logs) lies in $LABCTL_VM_HOME, default /var/tmp/labctl-vm.
set -eu
home=${LABCTL_VM_HOME:-/var/tmp/labctl-vm}
if [ "${LABCTL_VM_INSIDE:-}" != 1 ]; then
    mkdir -p "$home/etc" "$home/lib" "$home/images"
    export LABCTL_VM_INSIDE=1
    exec unshare --net --mount --ipc --pid --fork --kill-child --mount-proc -- sh "$0" "$@"
fi

# From here on this is process 1 of the new namespaces: when it ends the kernel ends all that it started.
ip link set lo up
mount -t tmpfs run /run
rm -rf "$home/lib/libvirt" && mkdir -p "$home/lib/libvirt" /run/lock /run/sshd
mount --bind "$home/lib/libvirt" /var/lib/libvirt
mkdir -p /var/lib/libvirt/images
mount --bind "$home/images" /var/lib/libvirt/images
cp -a /etc/libvirt "$home/etc/libvirt.new" && rm -rf "$home/etc/libvirt" && mv "$home/etc/libvirt.new" "$home/etc/libvirt"
rm -rf "$home/etc/libvirt/qemu" && mkdir -p "$home/etc/libvirt/qemu"
mount --bind "$home/etc/libvirt" /etc/libvirt
cat >/etc/libvirt/qemu.conf <<'CONF'
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
CONF
virtlogd -d
libvirtd -d
export LIBVIRT_DEFAULT_URI=qemu:///system VAGRANT_DEFAULT_PROVIDER=libvirt VAGRANT_HOME="${VAGRANT_HOME:-$home/vagrant}"
tries=0
until virsh -q uri >/dev/null 2>&1; do
    [ $((tries += 1)) -le 100 ] || { echo "vm_env: libvirtd does not answer" >&2; exit 1; }
    sleep 0.1
done
status=0
"$@" || status=$?
for domain in $(virsh -q list --name); do virsh -q destroy "$domain" >/dev/null || true; done
exit $status
