# Unpacks the tar on standard input into place and restarts the agent. $1 is the agent's file, $2 the stamp of all these files.
# The running agent is left alone until everything has arrived. Its zipapp stays until two newer ones exist, because programs it started may import from it.
set -eu
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
systemd() { [ -d /run/systemd/system ]; }

stop_agent() {
    read -r pid </run/labctl-agent.pid && read -r name <"/proc/$pid/comm" && [ "$name" = agent-run ] || return 0
    kill -TERM "$pid"
    tries=0
    while kill -0 "$pid" && [ $((tries += 1)) -le 150 ]; do sleep 0.02; done
    kill -0 "$pid" || return 0
    kill -KILL "$pid"
    pkill -KILL -s "$pid" -f '/opt/labctl/agent run' || true
} 2>/dev/null

rm -f /opt/labctl/stamp
tar -xmf - -C /
running=$(readlink /opt/labctl/agent) || running=
if [ "$running" != "$1" ]; then
    [ -z "$running" ] || find /opt/labctl -maxdepth 1 -name 'agent-*.pyz' ! -name "$running" ! -name "$1" -delete
    ln -sfn "$1" /opt/labctl/.agent
    mv -fT /opt/labctl/.agent /opt/labctl/agent
fi
systemd || stop_agent
printf '%s\n' "$2" >/run/labctl-agent.stamp
cp /run/labctl-agent.stamp /opt/labctl/stamp # agent-resume reads it after a later boot
if systemd; then
    mv -f /opt/labctl/labctl-agent.service /run/systemd/system/ # it is below /run, so that after a boot nothing starts before the master has joined the machine
    systemctl daemon-reload
    systemctl restart labctl-agent
else
    setsid /opt/labctl/agent-run </dev/null >/dev/null 2>&1 &
fi
