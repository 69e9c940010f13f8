"""Linux kernel/sched/: load balancing."""
