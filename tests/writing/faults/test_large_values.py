"""A value that Redis does not take is refused by name, with nothing stored, and is nobody else's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from homes import at, make_checkpoint, put, values_of
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_tiered_checkpoint import TieredSaver, ValueTooLargeError
from langgraph_tiered_checkpoint.codec import MOST_BYTES

SIZES = (3_000_000, 30_000_000)
"""One that the server has read when it gives up, and one that it has not."""

SAID = r"'t'.*proto-max-bulk-len.*channel 'large', [\d,]+ bytes"


@pytest.fixture
def narrow(redis_client: redis.Redis) -> Iterator[None]:
    """Redis takes 1 MiB as one value, rather than 512."""
    redis_client.config_set("proto-max-bulk-len", 1024 * 1024)
    yield
    redis_client.config_set("proto-max-bulk-len", 512 * 1024 * 1024)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("size", SIZES)
def test_value_over_the_server_s_limit_is_named_and_nothing_is_stored(
    redis_url: str, postgres_url: str, size: int
) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as saver:
        first = put(saver, at("t"), {"large": "small", "other": [1]})
        with pytest.raises(ValueTooLargeError, match=SAID):
            put(saver, first, {"large": "x" * size, "other": [2]}, 2)
        with pytest.raises(ValueTooLargeError, match=SAID):
            saver.put_writes(first, [("other", 1), ("large", "x" * size)], "task")
        assert values_of(saver, at("t")) == {"large": "small", "other": [1]}
        put(saver, first, {"large": "x" * 1_000_000, "other": [3]}, 3)
        found = saver.get_tuple(at("t"))
        assert found is not None
        assert (found.checkpoint["channel_values"]["other"], found.pending_writes) == ([3], [])


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("size", SIZES)
def test_value_over_the_server_s_limit_is_no_fault_of_other_tasks(redis_url: str, postgres_url: str, size: int) -> None:
    large: Any = make_checkpoint({"large": "x" * size})
    small: Any = make_checkpoint({"small": [1]})

    async def main() -> None:
        async with TieredSaver.from_urls(redis_url, postgres_url, promoter="external") as saver:
            await saver.aput(at("other"), small, {}, small["channel_versions"])
            tasks = [saver.aput(at("t"), large, {}, large["channel_versions"]) for _ in range(3)]
            readers = [saver.aget_tuple(at("other")) for _ in range(20)]
            refused = await asyncio.gather(*tasks[:1], *readers, *tasks[1:], return_exceptions=True)
            read = [one for one in refused if not isinstance(one, ValueTooLargeError)]
            assert [one.checkpoint["id"] for one in read] == [small["id"]] * len(readers)
            assert await saver.aget_tuple(at("t")) is None
            with pytest.raises(ValueTooLargeError, match=SAID):
                await saver.aput_writes(at("t", "", large["id"]), [("large", "x" * size)], "task")

    asyncio.run(main())


class Huge(JsonPlusSerializer):
    """Writes more than any Redis takes, without filling memory."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "null", bytes(MOST_BYTES + 1)


def test_value_that_no_redis_takes_is_not_sent(redis_url: str, postgres_url: str, redis_client: redis.Redis) -> None:
    with TieredSaver.from_urls(redis_url, postgres_url, serde=Huge(), promoter="external") as saver:
        sent = redis_client.info("stats")["total_net_input_bytes"]
        with pytest.raises(ValueTooLargeError, match=r"'t'.*channel 'large' is 536,870,913 bytes"):
            put(saver, at("t"), {"large": [1]})
        with pytest.raises(ValueTooLargeError, match=r"'t'.*'large' of task 'task' is 536,870,913 bytes"):
            saver.put_writes(at("t", "", "1"), [("large", 1)], "task")
        assert redis_client.info("stats")["total_net_input_bytes"] < sent + 10_000
