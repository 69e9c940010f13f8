"""How slabrace is started: the command, the pytest plugin, and the names that both of them import."""
