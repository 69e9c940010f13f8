"""Stress campaigns: the same answer whatever happens to workers, processes and the disk."""
