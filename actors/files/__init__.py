"""What user space reads: files of /proc, sysfs and cgroups, by the kernel functions that write them."""
