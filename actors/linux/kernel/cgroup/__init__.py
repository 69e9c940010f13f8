"""Linux kernel/cgroup/: cgroups and their css."""
