"""What slabrace writes: files that are whole or not there, and text that does nothing to a terminal."""
