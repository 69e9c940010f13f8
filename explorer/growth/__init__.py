"""`slabrace growth`: hosts simulated for days, beside what production hosts showed.

    published   the figures of the cover letters
    memory      what the structures of a simulated machine would take on a host
    host        one host on one kernel, day by day
    fleet       several of them in parallel processes
    comparison  their means, and how far they are from the published figures
    report      what a person, a program or a spreadsheet reads
    plot        what a person sees
    walk        the reaper of SLAB: how much it walks, and who waits for it

What is simulated is scenarios/services.py, on the machine and with the kernel functions of every scenario.
"""
