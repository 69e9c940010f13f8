"""Patches and scenarios of the user's, right and wrong."""
