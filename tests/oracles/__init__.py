"""Each oracle is tested on a kernel with one mistake, which it must report, and on a correct one."""
