"""The database: SQLite in a file, or PostgreSQL, and its tables' versions."""
