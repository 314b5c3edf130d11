"""The emoji pack: the same subjects drawn by several artists' hands, freely licensed, one Parquet file per style."""
