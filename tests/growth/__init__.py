"""`slabrace growth`: hosts simulated for days, on both kernels."""
