"""Real kernels' traces: the parser, what is compared, the search, the command."""
