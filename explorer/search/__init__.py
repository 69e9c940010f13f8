"""The search: which schedules of an experiment are run, and what is known from them.

Read in this order: `protocol` (what every search can be asked), `registry` (strategies by name), `strategies` (the
algorithms), `sampling` and `portfolio` (the searches that are made of samplers), `jobs` (some schedules of one sampler,
run by a worker), `campaign` (a whole search), `estimate` (how much it has not seen) and `report` (what it tells).
"""
