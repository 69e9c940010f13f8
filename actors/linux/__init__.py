"""Linux, by its own paths: a function of mm/slab_common.c stands in actors/linux/mm/slab_common.py.

Inline functions of a header stand with the C file they belong to; prototypes, and structures of headers that many
files share, are in `include`. A filesystem of several small files, as fs/ext4/, is one module. C names are kept letter
for letter. Every kernel function takes the execution context it runs in (`ctx`) first; `def` is atomic, `async def`
may be preempted at each await. docs/kernel-map.md lists the functions.
"""
