"""The live page of a lab, served by the master beside its API. It reads what every client reads."""
