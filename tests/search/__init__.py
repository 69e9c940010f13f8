"""The search, on programs whose schedules and Mazurkiewicz trace classes can be counted by hand."""
