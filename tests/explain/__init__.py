"""Tests of `explain`: the conflict, the report, and each of its forms."""
