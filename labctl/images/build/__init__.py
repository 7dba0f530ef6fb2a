"""Images from Debian's packages, with no registry: a recipe (provision/images/NAME.yaml) names packages, files and a configuration.

    recipe    what a recipe may say
    packages  .debs into a scratch folder; nothing is installed on this machine
    closure   the shared libraries that programs need, as the packages' own loader finds them
    layer     files into a tar whose bytes follow from its contents
    builder   the steps in order

The same packages give the same digest, whenever and wherever it is built.
"""

from labctl.images.build.builder import Builder

__all__ = ["Builder"]
