"""The cold tier: tables, statements, and what they read and write. No I/O."""
