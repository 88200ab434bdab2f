"""What a command has to do with: which servers, and a saver on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import typer

from langgraph_tiered_checkpoint.errors import ConfigurationError
from langgraph_tiered_checkpoint.saver import TieredSaver


@dataclass(frozen=True, slots=True)
class Access:
    """The global options."""

    redis: str
    postgres: str | None
    key_prefix: str
    schema: str | None
    scope: str

    @contextmanager
    def saver(
        self, *, promoter: Literal["embedded", "external"] = "external", auto_setup: bool = False
    ) -> Iterator[TieredSaver]:
        """A saver on the servers, within the scope if there is one; closed at the end.

        It makes no tables and starts no promoter unless told to.

        Raises:
            ConfigurationError: no Redis was named, or a URL that cannot be used.
        """
        if not self.redis:
            raise ConfigurationError(
                "no Redis is named: pass --redis redis://HOST:6379/0 before the command, or set LGT_REDIS_URL"
            )
        saver = TieredSaver.from_urls(
            self.redis,
            self.postgres,
            key_prefix=self.key_prefix,
            schema=self.schema,
            promoter=promoter,
            auto_setup=auto_setup,
        )
        try:
            yield saver.scoped(self.scope) if self.scope else saver
        finally:
            saver.close()


def access_of(ctx: typer.Context) -> Access:
    """The global options of the command that runs."""
    found = ctx.find_object(Access)
    if found is None:
        raise AssertionError("unreachable: the application's callback has set it")
    return found
