"""The actor system: a world, its actors and flows, the seam they await, and the two drivers.

Read in this order: `lane` (what may step), `actor` (who owns state), `flow` (who runs kernel code, and the
seam), `cpu` (who may preempt whom), `world` (the loop's one choice), `stepper`, `trio_driver`.
"""
