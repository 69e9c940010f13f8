"""The search: which schedules of an experiment are run, and the estimates that follow from them.

Reading order: `protocol` (the interface of every search), `registry` (strategies by name), `strategies` (the
algorithms), `sampling` and `portfolio` (the searches built from samplers), `jobs` (some schedules of one sampler, run
by a worker), `exact` and `parallel` (schedules and subtrees of an exact search), `campaign` (a whole search),
`checkpoint` (the state of one in a file), `estimate` (how much of the schedules is unseen) and `report` (text and JSON
output).
"""
