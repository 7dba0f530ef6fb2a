"""What can go wrong in more than one module."""


class BadLayer(Exception):
    """A blob of an image is not what it may be, or not what its digest promised."""
