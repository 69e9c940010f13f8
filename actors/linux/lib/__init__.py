"""Linux lib/: reference counts and identifiers."""
