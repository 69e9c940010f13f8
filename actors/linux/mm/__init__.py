"""Linux mm/: the slab allocators, memory cgroups, reclaim, the page cache."""
