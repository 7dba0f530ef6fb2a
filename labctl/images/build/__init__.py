"""Builds images from Debian's packages, without a registry. A recipe (provision/images/NAME.yaml) names packages, files and a
configuration.

    recipe    the fields of a recipe
    packages  downloads .debs and unpacks them into a scratch folder; nothing is installed on this machine
    closure   finds the shared libraries that programs need, by asking the packages' own loader
    layer     writes files into a tar whose bytes depend only on its contents
    builder   does the steps in order

The same packages give the same digest, whenever and wherever the image is built.
"""

from labctl.images.build.builder import Builder

__all__ = ["Builder"]
