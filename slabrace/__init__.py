"""Entry points of slabrace: the command, the pytest plugin, and the import names that both use."""
