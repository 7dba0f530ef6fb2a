"""`python -m labctl` is `labctl`."""

from labctl.cli.main import main

main()
