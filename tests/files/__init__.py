"""The kernel's files: formats, readers, the command that prints them, procps, and the shadow accounting behind them."""
