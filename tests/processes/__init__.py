"""The effects of signals and of lost processes on a command."""
