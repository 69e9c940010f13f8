"""Headers: prototypes of functions that files call in each other, and structures that belong to no one file."""
