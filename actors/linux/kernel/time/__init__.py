"""Linux kernel/time/: timers."""
