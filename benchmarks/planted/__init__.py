"""Kernels with one planted error each, as patch files; `benchmarks.mutants` runs the search on them.

They are never imported: `--patch FILE` loads them. The first line of each file states its error.
"""
