"""Inputs of strangers, made by the thousand: whatever a file holds, a command refuses it, or does what it says."""
