"""What labctl claims about speed, measured from outside: the `labctl` command, the API over TLS, and probes that run on the minions.

`python -m bench` makes labs of its own in a temporary folder, prints a table beside the aims, writes JSON, and destroys what it made.
Nothing leaves loopback and the labs' own networks. Every loop has an end.
"""
