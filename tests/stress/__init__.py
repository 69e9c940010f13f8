"""Tests of stress campaigns."""
