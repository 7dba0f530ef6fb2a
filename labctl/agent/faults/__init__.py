"""Faults that are made on the minion itself: in a container, on the disk, in the rules, in the DNS server. The master asks for them by `agent fault`."""
