"""Patches for the tests of `slabrace try`: the first line of each says whether it is right, and for which kernel."""
