"""The Runtime seam: what the agent asks of a machine (interface.py), and crun with conmon behind it (crun.py)."""
