"""A storage format in 40 lines: what a plugin of tokpack looks like."""
