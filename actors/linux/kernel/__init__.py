"""Linux kernel/: locks, RCU, work queues, softirqs, timers, IPIs, cgroups, task exit."""
