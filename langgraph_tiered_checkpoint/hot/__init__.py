"""The hot tier: keys, scripts, what they are sent and what they reply. No I/O."""
