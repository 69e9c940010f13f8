"""Linux init/: the boot of a machine."""
