"""The command line. Nothing in tokpack imports it; only here is anything printed."""
