#!/bin/sh
# From a root file system to a box's parts: pack.sh ROOT.tar FOLDER. Needs root, or a user namespace that looks like it.
# Leaves in FOLDER: root.ext4 (a whole disk), vmlinuz, initrd/ (the initrd's tree; labctl makes the archive, with nothing of this machine in it).
# The same tar gives the same bytes: SOURCE_DATE_EPOCH and E2FSPROGS_FAKE_TIME are the time, and identities are fixed.
set -eu
archive=$1 folder=$2
root=$folder/root initrd=$folder/initrd
modules='virtio_pci virtio_blk virtio_net virtio_rng ext4'
mkdir -p "$root" "$initrd/bin" "$initrd/modules" "$initrd/proc" "$initrd/sys" "$initrd/dev" "$initrd/root"
tar -x --numeric-owner --same-owner -p -f "$archive" -C "$root"

version=$(ls "$root/lib/modules")
mv "$root/boot/vmlinuz" "$folder/vmlinuz"
cp "$root/bin/busybox" "$initrd/bin/busybox"
ln -s busybox "$initrd/bin/sh"
for module in $modules; do
    chroot "$root" /sbin/modprobe -S "$version" --show-depends "$module" | sed -n 's|^insmod ||p'
done | awk '!seen[$1]++ { print $1 }' | while read -r path; do
    cp "$root$path" "$initrd/modules/"
    basename "$path" >>"$initrd/modules/order"
done

find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
truncate -s "$DISK_SIZE" "$folder/root.ext4"
mke2fs -q -t ext4 -L labctl -U "$DISK_UUID" -E "hash_seed=$DISK_UUID,root_owner=0:0,lazy_itable_init=1,nodiscard" -O ^metadata_csum_seed \
    -m 0 -d "$root" "$folder/root.ext4"
# mke2fs 1.47.0 takes over when we touched the files: that is set to the one time, too.
find "$root" -printf "sif \"/%P\" ctime @$SOURCE_DATE_EPOCH\nsif \"/%P\" atime @$SOURCE_DATE_EPOCH\n" | debugfs -w -f - "$folder/root.ext4" >"$folder/debugfs.log" 2>&1
rm -rf "$root" "$folder/debugfs.log"
