"""Linux kernel/rcu/: batched grace periods as the kernel has them, and eager ones for exact searches."""
