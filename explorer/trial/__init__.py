"""Trials of patches and of kernels: the same search on several kernels, and the differences between the answers.

`slabrace try` compares a kernel with and without a patch (`stages`, `sides`, `judge`). `slabrace bisect` looks for one
flaw on many kernels (`kernels`, `probes`, `history`). Both compare findings by cause (`causes`).
"""
