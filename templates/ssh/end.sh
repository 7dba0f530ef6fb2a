# Ends what a lab runs on this machine: agent, pods, rules, routes. $1 is the lab; with $2 `halt` its files stay, with `destroy` nothing stays.
# The agent's files are removed first, so that nothing starts it again meanwhile. Exit status 9: the machine belongs to another lab.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ ! -e /etc/labctl/claim ] || grep -qxF "lab $1" /etc/labctl/claim || exit 9
program=$(readlink -f /opt/labctl/agent 2>/dev/null) || program=
rm -f /opt/labctl/agent

if [ -d /run/systemd/system ]; then
    systemctl stop labctl-agent 2>/dev/null
    rm -f /run/systemd/system/labctl-agent.service
    systemctl daemon-reload
elif read -r pid </run/labctl-agent.pid && read -r name <"/proc/$pid/comm" && [ "$name" = agent-run ]; then
    kill -TERM "$pid"
    tries=0
    while kill -0 "$pid" && [ $((tries += 1)) -le 250 ]; do sleep 0.02; done
    kill -KILL "$pid"
fi 2>/dev/null
pkill -KILL -f '^/usr/bin/python3 /opt/labctl/agent( |$)' # its helper, logs, exec
status=0
if [ -f "$program" ]; then
    if [ "$2" = destroy ]; then /usr/bin/python3 "$program" clean; else /usr/bin/python3 "$program" clean --keep-images; fi
    status=$?
fi
if [ -f /etc/labctl/sysctls ]; then
    while read -r file value; do
        [ ! -e "$file" ] || [ "$(cat "$file")" = "$value" ] || printf '%s' "$value" >"$file"
    done </etc/labctl/sysctls
fi
rm -rf /run/labctl /run/labctl-agent.pid /run/labctl-agent.stamp /run/labctl-forwarder.sock /run/labctl-uplink
[ "$status" = 0 ] || exit "$status"

[ "$2" = destroy ] || { sed -i 's/^power .*/power Off/' /etc/labctl/claim && exit; }
if [ -s /etc/labctl/installed ]; then
    # shellcheck disable=SC2046 -- each package must be a word of its own
    DEBIAN_FRONTEND=noninteractive apt-get purge -q -y --auto-remove $(cat /etc/labctl/installed) >/dev/null || exit
fi
rm -rf /opt/labctl /var/log/labctl /var/lib/labctl/*
(cd /etc/labctl && rm -f agent.json agent.crt agent.key ca.crt sysctls installed claim) # the claim is removed last, because until then destroy can be repeated
rmdir /etc/labctl /var/lib/labctl 2>/dev/null || true # a folder that is not empty, or is a mount point, existed before and stays
