"""Stress campaigns: many schedules of many experiments, over hours and days, with a store that loses nothing.

A *request* spans a matrix of cells (`matrix`); a cell is one experiment with one strategy. An epoch is a list of jobs,
planned from the knowledge at its beginning (`planning`); an engine runs them in any order (`engines`), and their
answers are reduced where they are made (`answer`). When all jobs of an epoch have answered, the answers are folded into
the knowledge in the order of the jobs. So totals, findings and digests do not depend on workers, crashes or the clock.
All of it is in a SQLite database (`store`); `campaign` is the loop.
"""
