"""Linux, by its own paths: a function of mm/slab_common.c is in actors/linux/mm/slab_common.py.

Inline functions of a header are with the C file they belong to. Prototypes, and structures of headers that many files
share, are in `include`. A filesystem of several small files, such as fs/ext4/, is one module. C names are kept letter
for letter. The first parameter of a kernel function is the execution context it runs in (`ctx`). A `def` is atomic; an
`async def` may be preempted at each await. docs/kernel-map.md lists the functions.
"""
