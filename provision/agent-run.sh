#!/bin/sh
# Keeps the agent running where no systemd does. Pushed and started by the master, in a session of its own; ended with SIGTERM.
# Pods are not its children: restarting it, or it dying, disturbs none.
exec </dev/null >>/var/log/labctl/agent.log 2>&1
echo $$ >/run/labctl-agent.pid
agent=
stop() {
    [ -z "$agent" ] || kill -TERM "$agent" 2>/dev/null
    wait
    exit 0
}
trap stop TERM INT
pause=0
while :; do
    started=$(date +%s)
    /usr/bin/python3 /opt/labctl/agent run --config /etc/labctl/agent.json &
    agent=$!
    wait "$agent"
    echo "agent-run: the agent ended with status $?" >&2
    # one that lived is started at once, one that can't start ever less often
    if [ $(($(date +%s) - started)) -ge 5 ]; then pause=0; else pause=$((pause < 5 ? pause + 1 : 5)); fi
    [ "$pause" -le 1 ] && continue
    sleep "$((pause - 1))" &
    agent=$!
    wait "$agent"
done
