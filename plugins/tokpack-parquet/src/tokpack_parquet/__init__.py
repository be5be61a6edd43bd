"""Parquet as a tokpack format and source."""
