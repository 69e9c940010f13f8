"""Test that the exhaustive search is exhaustive: small programs, compared with an independent enumerator."""
