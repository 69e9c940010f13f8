"""The output of slabrace: files that are complete or absent, and text without effects on a terminal."""
