"""Python's tarfile, with its extraction filters (PEP 706) also where Python is older than they are: Debian 12 has 3.11.2, and they came with 3.11.4.

from labctl.tarfiles import tarfile
"""

try:
    from backports import tarfile  # only installed where it is needed (pyproject.toml)
except ImportError:
    import tarfile

__all__ = ["tarfile"]
