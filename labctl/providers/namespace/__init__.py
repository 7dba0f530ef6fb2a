"""Machines made of Linux namespaces. This file imports nothing, because the programs in `inside` start in bare interpreters."""
