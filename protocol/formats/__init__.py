"""The text formats of /proc, cgroup and ftrace: records from the kernel's text, and back."""
