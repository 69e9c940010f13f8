"""`slabrace growth`: hosts simulated for days, compared with figures of production hosts.

published   the figures of the cover letters
memory      the memory that a simulated machine's structures would take on a host
host        one host on one kernel, day by day
fleet       several hosts in parallel processes
comparison  their means, and the errors relative to the published figures
report      output as text, JSON and CSV
plot        output as a picture
walk        the reaper of SLAB: the length of its walks, and the waits for it

The simulated scenario is scenarios/services.py, on the same machine and kernel functions as every scenario.
"""
