#!/bin/sh
# Keeps the agent running where pid 1 is not systemd (there a unit does). Started by the push, in a session of its own:
#     setsid sh /opt/labctl/agent-run.sh < /dev/null > /dev/null 2>&1 &
# One per machine: a second one ends at once. TERM ends it and the agent; pods live on, they are in cgroups of their own.
set -u

exec 9> /run/labctl-agent.lock
flock -n 9 || exit 0
mkdir -p /var/log/labctl

agent=
trap '[ -n "$agent" ] && kill -TERM "$agent" 2> /dev/null; exit 0' TERM INT

pause_s=1
while :; do
    began=$(cut -d. -f1 /proc/uptime)
    /usr/bin/python3 /opt/labctl/agent run --config /etc/labctl/agent.json 9>&- >> /var/log/labctl/agent.log 2>&1 &
    agent=$!
    wait "$agent"
    status=$?
    lived_s=$(($(cut -d. -f1 /proc/uptime) - began))
    echo "agent-run: the agent exited with status $status after $lived_s s" >> /var/log/labctl/agent.log
    # An agent that lives is restarted soon, one that can't start ever more slowly, up to 16 s.
    if [ "$lived_s" -ge 10 ]; then pause_s=1; elif [ "$pause_s" -lt 16 ]; then pause_s=$((pause_s * 2)); fi
    sleep "$pause_s" 9>&- &
    wait $!
done
