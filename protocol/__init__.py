"""What things are: operations, findings, errors, the log, and the /proc text formats."""
