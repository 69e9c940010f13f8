"""Linux kernel/: locks, RCU, work queues, softirqs, IPIs, cgroups."""
