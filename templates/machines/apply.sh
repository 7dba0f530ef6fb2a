# Puts what is on standard input (a tar) in its place and starts the agent anew. $1: the agent's file, $2: the stamp of all this.
# Every file is moved into place whole; what runs now keeps its own zipapp until the one after the next.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
new=/opt/labctl/.new
mkdir -p /opt/labctl /etc/labctl /var/lib/labctl/agent /var/log/labctl /var/log/pods
rm -rf "$new"
mkdir "$new"
tar -xf - -C "$new"

stop_agent() {
    read -r pid </run/labctl-agent.pid || return 0
    grep -q agent-run "/proc/$pid/cmdline" || return 0
    kill -TERM "$pid"
    tries=0
    while kill -0 "$pid" && [ $((tries += 1)) -le 150 ]; do sleep 0.02; done
    pkill -KILL -s "$pid" -f '/opt/labctl/agent' || true
} 2>/dev/null

[ -d /run/systemd/system ] || stop_agent
if [ -e "$new/$1" ]; then
    running=$(readlink /opt/labctl/agent) || running=none
    find /opt/labctl -maxdepth 1 -name 'agent-*.pyz' ! -name "$running" -delete
    mv -f "$new/$1" /opt/labctl/
fi
ln -s "$1" "$new/agent"
mv -fT "$new/agent" /opt/labctl/agent
mv -f "$new/agent-run" /opt/labctl/agent-run
mv -f "$new"/etc/* /etc/labctl/
printf '%s\n' "$2" >/run/labctl-agent.stamp
if [ -d /run/systemd/system ]; then
    mv -f "$new/labctl-agent.service" /run/systemd/system/ # below /run: after a boot nothing starts before the master joined it
    systemctl daemon-reload
    systemctl restart labctl-agent
else
    setsid /opt/labctl/agent-run </dev/null >/dev/null 2>&1 &
fi
rm -rf "$new"
