"""Style rules that a machine can check, each with a message that says what to do instead."""
