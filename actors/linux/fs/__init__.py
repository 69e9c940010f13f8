"""Linux fs/: dentries, inodes, superblocks, and the filesystems of the model."""
