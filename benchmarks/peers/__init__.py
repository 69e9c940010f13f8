"""Peers of the search benchmark: programs that run in an environment of their own, and import nothing of slabrace."""
