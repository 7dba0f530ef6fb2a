# Claims the machine for a lab. $1 lab, $2 name, $3 power, $4 the kernel's boot id, $5 the lab's boot id. Exit status 9: it belongs to another lab.
# First it saves the kernel settings that the lab will change, so that they can be restored.
set -eu
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /etc/labctl
cd /etc/labctl
[ -e sysctls ] || for file in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/send_redirects; do
    printf '%s %s\n' "$file" "$(cat "$file")"
done >.sysctls && { [ -e sysctls ] || mv .sysctls sysctls; }
rm -f .sysctls
printf 'lab %s\nname %s\npower %s\nkernel %s\nboot %s\n' "$@" >.claim
if [ -e claim ]; then
    grep -qxF "lab $1" claim || { rm .claim; exit 9; }
    mv .claim claim
else
    ln .claim claim || { rm .claim; exit 9; }
    rm .claim
fi
