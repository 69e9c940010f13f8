"""What things do: the actor system and, on top of it, the simulated kernel."""
