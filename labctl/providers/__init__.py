"""Providers make machines. This package has their protocol (protocol.py), a folder for each provider with the same file names, and what
they share.

factory    makes a provider by its name
hostkey    makes and pins a machine's SSH host key
locks      allows one operation at a time, and finds the process of a machine's init
settings   the settings of all providers
"""
