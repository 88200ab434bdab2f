"""LangGraph checkpoints, hot in Redis under a TTL and promoted to Postgres when they turn out to be long-lived."""
