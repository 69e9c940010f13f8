"""Headers: prototypes of functions that several files call, and structures that several files share."""
