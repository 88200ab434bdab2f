"""The calls of all scripts. What each script promises stands in its own header. No I/O, no clock."""

from __future__ import annotations

from langgraph_tiered_checkpoint.hot.flushing import FlushingCalls
from langgraph_tiered_checkpoint.hot.reading import ReadingCalls
from langgraph_tiered_checkpoint.hot.reshaping import ReshapingCalls
from langgraph_tiered_checkpoint.hot.upkeep import UpkeepCalls
from langgraph_tiered_checkpoint.hot.writing import WritingCalls


class Hot(WritingCalls, ReadingCalls, FlushingCalls, ReshapingCalls, UpkeepCalls):
    """Builders of script calls under one prefix and one set of policies."""
