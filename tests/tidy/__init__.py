"""Style rules that a machine can check, each with a message about the remedy."""
