"""Machines made of Linux namespaces. Imports nothing by itself: its `inside` programs start in bare interpreters."""
