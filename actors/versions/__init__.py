"""Versions of a kernel function side by side, and patches laid over them."""
