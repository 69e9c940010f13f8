"""The command line: its options, its usage errors, its JSON and its completion."""
