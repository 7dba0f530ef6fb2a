"""The streams carry bytes between a client and a machine, through the API and over SSH: exec, attach, logs, port-forward and the HTTP proxy."""
