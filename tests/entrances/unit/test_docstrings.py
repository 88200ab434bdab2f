"""What an editor shows of each method."""

from __future__ import annotations

import inspect
import re

from langgraph_tiered_checkpoint import TieredSaver


def test_every_async_method_says_what_it_does_and_of_which_it_is_the_twin() -> None:
    twins = {
        name: inspect.getdoc(method) or ""
        for name, method in vars(TieredSaver).items()
        if name.startswith("a") and callable(getattr(TieredSaver, name[1:], None))
    }
    assert {"aget_tuple", "aput", "astats", "aclose"} <= set(twins)
    assert [name for name, doc in twins.items() if not re.match(rf"Async `{name[1:]}`: \w+ \w+", doc)] == []
