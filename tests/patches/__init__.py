"""The user's patches and scenarios, valid and broken ones."""
