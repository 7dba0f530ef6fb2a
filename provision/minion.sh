#!/bin/sh
# Configures a Debian that has the packages as a minion. Run as root in it, once; running it again changes nothing.
# The same for the namespace root file system, the VM box and machines of your own: everything that is per machine
# (host key, authorized key, boot id, addresses) comes later, from the provider.
set -eu

mkdir -p /etc/labctl /opt/labctl /var/lib/labctl /var/log/labctl /var/log/pods /run/sshd
chmod 0700 /var/lib/labctl

# sshd is the only open port of a minion. Keys only; one host key; room for the master's channels.
cat > /etc/ssh/sshd_config.d/labctl.conf <<'CONF'
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
X11Forwarding no
PrintMotd no
MaxSessions 64
MaxStartups 100
ClientAliveInterval 15
CONF

# Connections that have not logged in count for their address: a pod can't take all that there may be and keep the master out. (OpenSSH 8.5)
if grep -qi persourcemaxstartups /usr/sbin/sshd; then
    echo 'PerSourceMaxStartups 20' >> /etc/ssh/sshd_config.d/labctl.conf
fi

# A machine never carries keys or an identity that were made with the image.
if [ "${LABCTL_IMAGE:-}" = 1 ]; then
    rm -f /etc/ssh/ssh_host_*
    : > /etc/machine-id
    rm -f /etc/hostname /etc/resolv.conf
    : > /etc/resolv.conf
    echo 'HostKey /etc/ssh/labctl_host_ed25519_key' >> /etc/ssh/sshd_config.d/labctl.conf
fi
