"""Linux kernel/rcu/: batched grace periods as in the kernel, and eager ones for exact searches."""
