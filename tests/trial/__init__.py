"""`slabrace try` and `slabrace bisect`."""
