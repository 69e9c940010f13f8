"""Tests of generated workloads: their programs, and how `shrink` shortens them."""
