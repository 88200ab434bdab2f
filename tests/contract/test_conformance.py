"""LangGraph's own conformance suite, in every mode that a thread can live in, through both faces of the saver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from typing_extensions import override

from langgraph_tiered_checkpoint import TieredSaver

Writes = Sequence[tuple[str, Any]]


class Flushing(TieredSaver):
    """Postgres holds every write by the time the next call is made."""

    @override
    def put(self, config: RunnableConfig, *rest: Any) -> RunnableConfig:
        stored = super().put(config, *rest)
        self.after_write(config["configurable"]["thread_id"])
        return stored

    @override
    async def aput(self, config: RunnableConfig, *rest: Any) -> RunnableConfig:
        stored = await super().aput(config, *rest)
        await self.aafter_write(config["configurable"]["thread_id"])
        return stored

    @override
    def put_writes(self, config: RunnableConfig, writes: Writes, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id, task_path)
        self.after_write(config["configurable"]["thread_id"])

    @override
    async def aput_writes(self, config: RunnableConfig, writes: Writes, task_id: str, task_path: str = "") -> None:
        await super().aput_writes(config, writes, task_id, task_path)
        await self.aafter_write(config["configurable"]["thread_id"])

    def after_write(self, thread_id: str) -> None:
        self.promote(thread_id)
        assert self.explain(thread_id).state == "clean"

    async def aafter_write(self, thread_id: str) -> None:
        await self.apromote(thread_id)
        assert (await self.aexplain(thread_id)).state == "clean"


class Evicting(Flushing):
    """Every read comes from Postgres."""

    @override
    def after_write(self, thread_id: str) -> None:
        super().after_write(thread_id)
        self.evict(thread_id)
        assert self.explain(thread_id).tier == "cold"

    @override
    async def aafter_write(self, thread_id: str) -> None:
        await super().aafter_write(thread_id)
        await self.aevict(thread_id)
        assert (await self.aexplain(thread_id)).tier == "cold"


class Sync(BaseCheckpointSaver[str]):
    """The sync methods of a saver, for a suite that only calls async ones."""

    def __init__(self, saver: TieredSaver) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver

    @override
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.saver.get_tuple, config)

    @override
    async def alist(self, config: RunnableConfig | None, **wanted: Any) -> AsyncIterator[CheckpointTuple]:
        for found in await asyncio.to_thread(lambda: list(self.saver.list(config, **wanted))):
            yield found

    @override
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await asyncio.to_thread(self.saver.put, config, checkpoint, metadata, new_versions)

    @override
    async def aput_writes(self, config: RunnableConfig, writes: Writes, task_id: str, task_path: str = "") -> None:
        await asyncio.to_thread(self.saver.put_writes, config, writes, task_id, task_path)

    @override
    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.saver.delete_thread, thread_id)

    @override
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.saver.delete_for_runs, run_ids)

    @override
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self.saver.copy_thread, source_thread_id, target_thread_id)

    @override
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(lambda: self.saver.prune(thread_ids, strategy=strategy))

    @override
    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.saver.get_next_version(current, channel)


@pytest.mark.parametrize("face", ["async", "sync"])
@pytest.mark.parametrize(
    ("kind", "cold"),
    [
        pytest.param(TieredSaver, True, id="ephemeral"),
        pytest.param(Flushing, True, id="promoted and flushed after every write"),
        pytest.param(Evicting, True, id="evicted after every write"),
        pytest.param(TieredSaver, False, id="hot tier only"),
    ],
)
async def test_suite_passes_in_full(
    kind: type[TieredSaver], *, cold: bool, face: str, redis_url: str, request: pytest.FixtureRequest
) -> None:
    postgres_url = request.getfixturevalue("postgres_url") if cold else None

    @checkpointer_test(name=f"{kind.__name__}, {face}")
    async def factory() -> Any:
        saver = kind.from_urls(redis_url, postgres_url, promoter="external")
        yield saver if face == "async" else Sync(saver)
        await saver.aclose()

    report = await validate(factory)
    assert set(report.results) == {capability.value for capability in Capability}
    for name, result in report.results.items():
        assert result.detected, name
        assert result.tests_passed, name
        assert not result.failures, (name, result.failures)
