"""Algorithms that choose the next step. Each module is one of them; its docstring has the paper and the guarantee."""
