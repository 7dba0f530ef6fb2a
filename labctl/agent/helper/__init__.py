"""The helper: the master's fixed hand on a minion, for iptables, conntrack, routes, the forwarder and the DNS server. Framed JSON on standard input and output."""
