"""Traces of real kernels: the parser, the compared functions, the search, the command."""
