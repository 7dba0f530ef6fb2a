# Prints what a machine is and has, as lines of `word value`. It changes nothing and runs as root.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C
say() { printf '%s %s\n' "$1" "$2"; }
{
    say root "$(id -u)"
    read -r kernel </etc/labctl/boot_id || read -r kernel </proc/sys/kernel/random/boot_id
    say kernel "$kernel"
    say arch "$(uname -m)"
    say system "$(. /etc/os-release && printf %s "$PRETTY_NAME")"
    say python "$(/usr/bin/python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
    for program in crun conmon iptables iptables-restore conntrack ip pkill tar bird ovs-vsctl apt-get; do
        command -v "$program" >/dev/null && say has "$program"
    done
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        say cgroup "2 $(cat /sys/fs/cgroup/cgroup.controllers)"
    elif [ -d /sys/fs/cgroup/memory ]; then
        say cgroup "1 $(ls /sys/fs/cgroup | tr '\n' ' ')"
    fi
    { grep -qw overlay /proc/filesystems || modprobe -q overlay; } && say overlay yes
    iptables -w 5 -t nat -S >/dev/null && say nat yes
    folder=/var/lib
    [ -d /var/lib/labctl ] && folder=/var/lib/labctl
    say free "$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')"
    ip -4 -o address show scope global | while read -r _ _ _ address _; do say address "${address%/*}"; done
    say source "$(ip -4 -o route get 198.51.100.1 | sed -n 's/.* src \([0-9.]*\).*/\1/p')" # the source address of its default route; no packet is sent
    sed 's/^/claim-/' /etc/labctl/claim
} 2>/dev/null
exit 0
