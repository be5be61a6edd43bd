"""Ways to run units of work that need no further package."""
