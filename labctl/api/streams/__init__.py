"""What flows instead of being answered: exec, attach, logs, port-forward and the HTTP proxy, from a client through the API to a machine over SSH."""
