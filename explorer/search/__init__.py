"""The search: which schedules of an experiment are run, and what is known from them.

Read in this order: `registry` (strategies by name), `strategies` (the algorithms), `jobs` (some schedules of one
strategy, run by a worker), `portfolio` (which strategy is next), `campaign` (a whole search), `estimate` (how much it
has not seen) and `report` (what it tells).
"""
