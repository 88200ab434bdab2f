"""Thread ids that fall into one bucket: some hundreds of them show what a hundred thousand in all buckets would."""

from __future__ import annotations

from itertools import count, islice

from langgraph_tiered_checkpoint.hot.keys import bucket_of

BUCKET = 7


def in_one_bucket(how_many: int, prefix: str = "t") -> list[str]:
    """So many ids of bucket 7, in order."""
    return sorted(islice((name for n in count() if bucket_of(name := f"{prefix}{n}") == BUCKET), how_many))
