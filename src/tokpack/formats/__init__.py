"""Storage formats that need no further package."""
