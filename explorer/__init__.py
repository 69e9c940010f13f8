"""How scenarios are run, searched and shown."""
