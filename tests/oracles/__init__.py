"""What each oracle must say of a kernel with one mistake in it, and of one without."""
