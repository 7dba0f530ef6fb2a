#!/bin/sh
# Debian's cloud kernel and its modules, laid into the system this runs in (a box being built). The package itself is not installed:
# it would bring initramfs-tools and a boot loader, and the hypervisor loads this kernel and labctl's own initrd.
set -eu
arch=$(dpkg --print-architecture)
package=$(apt-cache depends --important "linux-image-cloud-$arch" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
cd /tmp
apt-get download -q -o APT::Sandbox::User=root "$package"
dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -C / --keep-directory-symlink ./boot ./lib/modules
rm -f "$package"_*.deb /boot/System.map-* /boot/config-*
mv /boot/vmlinuz-* /boot/vmlinuz
depmod "$(ls /lib/modules)"
