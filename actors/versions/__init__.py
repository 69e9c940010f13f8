"""Versions of kernel functions side by side, and patches laid over them."""
