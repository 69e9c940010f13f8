"""The kernel's files: formats, readers, the command that prints them, procps, and the ledger they must agree with."""
