"""DNS: the names of Services and pods, computed here and answered on each minion by agent/dns. docs/dns.md has the picture."""
