"""Tests of `keep`: regression files, and what is done with them."""
