"""Tests of the self-tests: that runs are deterministic, and that independent steps commute."""
