"""The command line: its options, what it says of wrong ones, its JSON and its completion."""
