"""The simulated kernel: one module per kernel file, C names letter for letter.

docs/kernel-map.md says which C function stands where. Every kernel function takes the flow it runs in (`ctx`)
first; `def` is atomic, `async def` may be preempted at each await.
"""
