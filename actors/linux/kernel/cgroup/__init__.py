"""Linux kernel/cgroup/."""
