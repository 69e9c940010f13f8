"""What signals and the loss of processes do to a command."""
