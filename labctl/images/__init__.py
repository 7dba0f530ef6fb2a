"""The lab's own image store: blobs by digest, names by (name, platform), kept on the master's host.

images     `Images`, the one door: resolve, blob, build, load, save, list, remove
names      what a name means
blobs      bytes by their digest
index      the file of names
layout     OCI archives and what `docker save` writes
pull       registries, through skopeo
build/     images from Debian packages
"""
