"""The search, on programs whose schedules and trace classes can be counted by hand."""
