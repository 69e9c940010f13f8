"""Linux lib/: reference counts and number allocators."""
