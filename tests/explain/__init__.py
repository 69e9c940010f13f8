"""Tests of `explain`: the race, the report, and each of its forms."""
