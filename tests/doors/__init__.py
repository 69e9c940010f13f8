"""The user's own scenarios, oracles and strategies, by path and from installed projects."""
