"""A real Redis and a real Postgres from wheels, for demos and tests."""
