"""Threads on their way in and out: from other savers and chat histories, to files and back, and for good."""
