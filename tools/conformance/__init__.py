"""`make conformance`: Kubernetes' own end-to-end tests, played against a lab of namespace machines.

Debian has the sources of Kubernetes 1.20, the tests and the programs of their images among them. They are fetched as any package (source.py), built with
Debian's Go, and put into images with Debian's packages (images.py). Nothing of it is kept in this repository. __main__.py starts a lab, plays the tests and
says what became of them. docs/conformance.md has the results, and why some of these old tests can't pass on any Kubernetes of today.
"""
