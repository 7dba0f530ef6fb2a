"""`python -m labctl` is `labctl`."""

from labctl.cli.start import main

main()
