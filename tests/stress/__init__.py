"""Tests of campaigns, their store, and what reads it."""
