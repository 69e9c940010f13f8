"""Kernels with one planted error each, as patch files: `benchmarks.mutants` lets the search look for them.

They are never imported: `--patch FILE` loads them. The first line of each says what is wrong with it.
"""
