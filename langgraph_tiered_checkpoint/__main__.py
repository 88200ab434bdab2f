"""`python -m langgraph_tiered_checkpoint`, which is `lgt`."""

from langgraph_tiered_checkpoint.cli import main

main()
