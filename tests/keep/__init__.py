"""Tests of `keep`: regression files and their use."""
