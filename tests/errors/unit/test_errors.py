"""What holds for every exception of the package."""

from __future__ import annotations

import inspect

import pytest

from langgraph_tiered_checkpoint import ConfigurationError, TieredCheckpointError, errors

EVERY = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, BaseException)]


@pytest.mark.parametrize("error", EVERY)
def test_message_reaches_the_clients_of_the_agent_server(error: type[Exception]) -> None:
    """It passes on messages of RuntimeError and ValueError; of others it says that an internal error occurred."""
    api = pytest.importorskip("langgraph_api.serde", reason="the Agent Server needs Python 3.11")
    assert issubclass(error, TieredCheckpointError)
    assert "the remedy" in str(api.default(error("the remedy")))


def test_only_what_a_caller_did_wrong_is_a_value_error() -> None:
    for error in EVERY:
        assert issubclass(error, ValueError) == issubclass(error, ConfigurationError)
