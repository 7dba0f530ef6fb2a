"""For tests of other programs: a Kubernetes API with hollow nodes in the test's own process, and real machines that begin each test from a snapshot.

`plugin` is loaded by pytest (entry point `labctl`) and has the fixtures `labctl_api` and `labctl_lab`; docs/testing.md shows how an operator is tested.
"""
