"""Linux init/: the machine boots."""
