"""Speed benchmarks, as ratios: one a module, all in `registry`; `python -m benchmarks` runs them.

Nothing is imported here: `generations` is started as a process of its own, and must stay as small as a run.
"""
