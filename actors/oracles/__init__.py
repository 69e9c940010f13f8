"""Oracles: they compare the machine with shadow accounting and report findings."""
