"""Linux kernel/locking/: locks and lockdep."""
