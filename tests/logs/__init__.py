"""Logs of strangers: what they may not do, and how their damage is told."""
