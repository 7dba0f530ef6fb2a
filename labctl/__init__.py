"""labctl: a Kubernetes small enough to read, on real machines you can break."""

__version__ = "0.1.0"
