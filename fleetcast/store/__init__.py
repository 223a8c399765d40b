"""The database: tables, migrations, and the small functions that read and write them. Knows nothing else of ours."""
