"""The DNS server of one minion: a process of its own that answers pods' and the minion's queries about Services. docs/dns.md has the picture."""
