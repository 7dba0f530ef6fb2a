# What a machine has of labctl, as lines of `word value`. Changes nothing.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
say() { printf '%s %s\n' "$1" "$2"; }
running() {
    if [ -d /run/systemd/system ]; then
        systemctl is-active -q labctl-agent
    else
        read -r pid </run/labctl-agent.pid && grep -q agent-run "/proc/$pid/cmdline"
    fi
} 2>/dev/null
boot=$(cat /etc/labctl/boot_id 2>/dev/null) || boot=$(cat /proc/sys/kernel/random/boot_id)
say boot "$boot"
say arch "$(uname -m)"
say agent "$(sha256sum </opt/labctl/agent 2>/dev/null)"
if running; then
    say stamp "$(cat /run/labctl-agent.stamp 2>/dev/null)"
    say certificate "$(base64 -w0 /etc/labctl/agent.crt 2>/dev/null)"
fi
for program in /usr/bin/python3 crun conmon ip iptables-restore; do
    command -v "$program" >/dev/null || say lacks "$program"
done
