"""The lab's own image store: blobs by digest, names by (name, platform), kept on the master's host.

images     `Images`, which other rooms use: resolve, blob, build, load, save, list, remove
names      parses and normalizes image names
blobs      stores bytes under their digest
index      the file that maps names to images
layout     reads and writes OCI archives and what `docker save` writes
pull       pulls from registries, through skopeo
build/     builds images from Debian packages
"""
