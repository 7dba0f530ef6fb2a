"""`python -m labctl.cli` runs the command line. labctl starts itself in this way, for example through sudo."""

from labctl.cli.start import main

main()
