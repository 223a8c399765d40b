"""A dataset on disk: a manifest and Parquet parts, on any pyarrow filesystem."""
