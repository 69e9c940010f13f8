"""Run, search and explain scenarios; the commands of `slabrace`."""
