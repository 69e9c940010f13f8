"""Patches of the reparenting of 7.2: one right, five wrong."""
