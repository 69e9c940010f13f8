"""Algorithms that choose the next step, one a module; the docstring of each has its paper and its guarantee."""
