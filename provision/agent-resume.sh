#!/bin/sh
# A machine that comes out of a snapshot runs this at its boot: the agent starts as the last join left it, while the master starts too.
# The join that follows looks at it as at any agent that runs, and replaces it if something changed since.
stamp=/opt/labctl/stamp
[ -s "$stamp" ] && [ ! -d /run/systemd/system ] || exit 0
cp "$stamp" /run/labctl-agent.stamp && exec /opt/labctl/agent-run
