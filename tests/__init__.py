"""Tests by purpose, one topic a file; tests/tidy is about the repository itself."""
