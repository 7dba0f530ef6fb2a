"""Machines: the protocol (protocol.py), a folder per provider with the same file names, and what they share.

factory    a provider by its name
hostkey    a machine's pinned SSH host key
locks      one operation at a time; who lives there
settings   what can be set
"""
