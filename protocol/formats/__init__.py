"""The text formats of /proc, cgroup and ftrace: what a kernel prints, as records and back."""
