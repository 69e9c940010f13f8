"""Untrusted logs: the limits of their effects, and the reports of their damage."""
