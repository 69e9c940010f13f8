"""What comes from outside: scenarios, oracles and strategies of the user's, by path and from installed projects."""
