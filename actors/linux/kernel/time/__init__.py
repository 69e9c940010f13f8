"""Linux kernel/time/."""
