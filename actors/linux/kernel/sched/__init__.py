"""Linux kernel/sched/."""
