"""Files that user space reads: /proc/slabinfo and its relatives, cgroup files, and the crash reader."""
