"""Linux kernel/locking/."""
