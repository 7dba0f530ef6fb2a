"""The helper: the master's fixed hand on a minion, for iptables, conntrack, routes and the forwarder. Framed JSON on standard input and output."""
