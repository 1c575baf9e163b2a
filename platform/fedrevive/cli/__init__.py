"""The command line: `fedrevive ...`, one file per command group."""
