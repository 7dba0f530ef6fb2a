"""`python -m labctl.cli` runs the command line. labctl starts itself in this way, for example through sudo."""

from labctl.cli.main import main

main()
