"""Tests of the sdist and the wheel."""
