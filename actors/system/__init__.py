"""The actor system: a world, its actors and flows, the seam they await, and the two drivers.

Read in this order: `lane` (the schedulable entity), `actor` (owns state), `flow` (an execution context that runs kernel
code, and the seam), `cpu` (preemption rules), `world` (the one choice of the loop), `stepper`, `trio_driver`.
"""
