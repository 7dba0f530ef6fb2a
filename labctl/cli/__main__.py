"""`python -m labctl.cli`: how labctl calls itself."""

from labctl.cli.main import main

main()
