"""The tables of docs/benchmarks.md, one section for each workload."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.measures import Results
from benchmarks.tables import NOTHING, cases_of, failure, in_short, markdown, peers_of, times, together
from benchmarks.targets import overhead, targets

Section = Callable[[Results], str]


def targets_section(results: Results) -> str:
    """Target, measured, met or not."""
    lines = [
        "| # | target | bound | measured | met | in CPU time | at best |",
        "| ---: | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for target in targets(results):
        met = {True: "yes", False: "**no**", None: "not measured"}[target.met]
        bound = f"{'≤' if target.sense == 'at most' else '≥'} {target.bound:g}"
        lines.append(
            f"| {target.number} | {target.claim} | {bound} | {times(target.measured)} | {met} | {times(target.cpu)} "
            f"| {times(target.at_best)} |"
        )
    return "\n".join(lines)


def operations_section(results: Results) -> str:
    """By number of messages: against the limit, and against memory."""
    parts = []
    for case in cases_of(results, "operations"):
        for base, operations in (
            ("limit", ("put", "put_writes", "get_tuple")),
            ("InMemorySaver", ("get_tuple", "list")),
        ):

            def cell(peer: str, column: str, case: str = case, base: str = base) -> str:
                operation, measure = column.split(" ", 1) if " " in column else (column, "us")
                against = f"{base}, sync" if base == "limit" and _is_sync(peer) else base
                ratio = results.ratio(
                    "operations", case, peer, against, f"{operation} {_MEASURES.get(measure, measure)}"
                )
                return times(ratio) if ratio is not None else failure(results, "operations", [case], peer)

            columns = [column for name in operations for column in (name, f"{name} p99", f"{name} CPU")]
            table = markdown(f"{case}, × {base}", columns, peers_of(results, "operations"), cell)
            parts.append(table)
    return together(*parts)


_MEASURES = {"p99": "p99 us", "CPU": "cpu us"}


def _is_sync(peer: str) -> bool:
    return ", sync" in peer or peer == "PostgresSaver"


def agent_section(results: Results) -> str:
    """Against AsyncValkeySaver, by kind of state; and Redis's own time against the base."""
    operations = ("put", "put_writes", "get_tuple", "get_tuple by id")
    parts = []
    for case in cases_of(results, "agent"):

        def cell(peer: str, column: str, case: str = case) -> str:
            operation, measure = (column.removesuffix(" CPU"), "cpu us") if " CPU" in column else (column, "us")
            return times(results.ratio("agent", case, peer, "AsyncValkeySaver", f"{operation} {measure}"))

        columns = [column for name in operations for column in (name, f"{name} CPU")]
        peers = [peer for peer in peers_of(results, "agent") if results.get("agent", case, peer, "put us") is not None]
        parts.append(markdown(f"{case}, × AsyncValkeySaver", columns, peers, cell))

    def server(case: str, operation: str) -> str:
        return times(results.ratio("agent", case, "TieredSaver", "base", f"{operation} server us"))

    title = "Redis's own time, × a script of one HSET and PEXPIRE, or of one HMGET, of the same bytes"
    return together(*parts, markdown(title, operations, cases_of(results, "agent"), server))


def sessions_section(results: Results) -> str:
    """Throughput against memory, by number of sessions."""
    parts = []
    cases = cases_of(results, "sessions")
    for kind, measure in (("turns", "turns per s"), ("operations", "operations per s")):

        def cell(peer: str, case: str, kind: str = kind, measure: str = measure) -> str:
            ratio = results.ratio("sessions", case, peer, "InMemorySaver", measure)
            return times(ratio) if ratio is not None else failure(results, "sessions", [f"{case}, {kind}", case], peer)

        parts.append(markdown(f"{kind} per second, × InMemorySaver", cases, peers_of(results, "sessions"), cell))

    def crowd(peer: str, column: str) -> str:
        failed = results.get("crowd", "2,000 tasks", peer, "failed tasks")
        if failed:
            return f"{failed:,.0f} of them {in_short(results.failures_of('crowd', peer))}"
        ratio = results.ratio("crowd", "2,000 tasks", peer, "InMemorySaver", "operations per s")
        return times(ratio) if ratio is not None else failure(results, "crowd", ["2,000 tasks"], peer)

    parts.append(
        markdown("2,000 tasks at once", ["operations per second, × InMemorySaver"], peers_of(results, "crowd"), crowd)
    )
    return together(*parts)


def runs_section(results: Results) -> str:
    """What checkpointing adds to a run, against what InMemorySaver adds; and the whole run."""
    cases = cases_of(results, "runs")

    def added(peer: str, case: str) -> str:
        ratio = overhead(results, case, peer)
        return times(ratio) if ratio is not None else failure(results, "runs", [case], peer)

    def whole(peer: str, case: str) -> str:
        ratio = results.ratio("runs", case, peer, "InMemorySaver", "run us")
        return times(ratio) if ratio is not None else failure(results, "runs", [case], peer)

    def cpu(peer: str, case: str) -> str:
        return times(overhead(results, case, peer, "run cpu us"))

    peers = peers_of(results, "runs")
    return together(
        markdown("what checkpointing adds, × InMemorySaver", cases, peers, added),
        markdown("the same in CPU time of the client, × InMemorySaver", cases, peers, cpu),
        markdown("the whole run, × InMemorySaver", cases, peers, whole),
    )


def network_section(results: Results) -> str:
    """Round trips, bytes, server CPU; and time under a delay against the limit."""
    operations = ("put", "put_writes", "get_tuple", "list")
    peers = [peer for peer in peers_of(results, "network") if not peer.startswith("limit")]
    parts = []
    for title, measure, base in (
        ("round trips", "round trips", None),
        ("commands that Redis runs, those of scripts too", "commands", None),
        ("bytes sent, × TieredSaver", "bytes out", "TieredSaver"),
        ("bytes received, × TieredSaver", "bytes in", "TieredSaver"),
    ):

        def counted(peer: str, operation: str, measure: str = measure, base: str | None = base) -> str:
            name = f"{operation} {measure}"
            found = results.get("network", "counted", peer, name)
            if base is not None and found is not None:
                found = results.ratio("network", "counted", peer, base, name)
            if found is None:
                return failure(results, "network", ["counted"], peer)
            return times(found) if found else NOTHING

        parts.append(markdown(title, operations, peers, counted))

    def server(peer: str, operation: str) -> str:
        ours, base = (_server_us(results, name, operation) for name in (peer, "TieredSaver"))
        return times(ours / base) if ours and base else NOTHING

    parts.append(markdown("CPU of the servers, × TieredSaver", operations, peers, server))
    for case in [case for case in cases_of(results, "network") if case != "counted"]:

        def late(peer: str, operation: str, case: str = case) -> str:
            base = "TieredSaver" if operation in {"list", "run"} else "limit, sync" if _is_sync(peer) else "limit"
            return times(results.ratio("network", case, peer, base, f"{operation} us"))

        parts.append(
            markdown(
                f"{case} a round trip, × the limit (list and run: × TieredSaver)", [*operations, "run"], peers, late
            )
        )
    return together(*parts)


def _server_us(results: Results, peer: str, operation: str) -> float | None:
    parts = [results.get("network", "counted", peer, f"{operation} {name} cpu us") for name in ("redis", "postgres")]
    return None if parts[0] is None or parts[1] is None else max(parts[0] + parts[1], 0.0)


def history_section(results: Results) -> str:
    """Against AsyncPostgresSaver on the shortest thread, so that both the lead and the growth show."""
    cases = cases_of(results, "history")
    parts = []
    for title, measure in (("get_tuple", "get_tuple us"), ("list(limit=10)", "list us")):

        def cell(peer: str, case: str, measure: str = measure) -> str:
            ours, base = (
                results.get("history", of, name, measure)
                for of, name in ((case, peer), (cases[0], "AsyncPostgresSaver"))
            )
            return times(ours / base) if ours and base else NOTHING

        against = f"× AsyncPostgresSaver at {cases[0]}" if cases else ""
        parts.append(markdown(f"{title}, {against}", cases, peers_of(results, "history"), cell))
    return together(*parts)


def flushing_section(results: Results) -> str:
    """Throughput against AsyncPostgresSaver."""
    cases = cases_of(results, "flushing")

    def cell(peer: str, case: str) -> str:
        return times(results.ratio("flushing", case, peer, "AsyncPostgresSaver", "checkpoints per s"))

    return markdown("checkpoints per second, × AsyncPostgresSaver", cases, peers_of(results, "flushing"), cell)


def conversation_section(results: Results) -> str:
    """Sizes against the live state, times against memory."""
    cases = cases_of(results, "conversation")
    peers = peers_of(results, "conversation")
    parts = []
    for title, measure in (
        ("bytes sent to Redis, × live state", "sent to redis bytes"),
        ("memory of Redis, × live state", "redis memory bytes"),
        ("size in Postgres, × live state", "postgres bytes"),
    ):

        def size(peer: str, case: str, measure: str = measure) -> str:
            found, live = (results.get("conversation", case, peer, name) for name in (measure, "live state bytes"))
            if found is None or not live:
                return failure(results, "conversation", [case], peer)
            return times(found / live) if found > live / 100 else NOTHING

        parts.append(markdown(title, cases, peers, size))
    for title, measure in (
        ("a turn, × InMemorySaver", "turn ms"),
        ("one of the last turns, × InMemorySaver", "last turns ms"),
        ("CPU of the client, × InMemorySaver", "turn cpu ms"),
    ):

        def duration(peer: str, case: str, measure: str = measure) -> str:
            return times(results.ratio("conversation", case, peer, "InMemorySaver", measure))

        parts.append(markdown(title, cases, peers, duration))
    return together(*parts)


def startup_section(results: Results) -> str:
    """CPU time of an import."""
    base = "langgraph.checkpoint.base, redis and psycopg"

    def cell(peer: str, column: str) -> str:
        return times(results.ratio("startup", "import", peer, base, "import cpu ms"))

    return markdown("import", [f"CPU time, × {base}"], peers_of(results, "startup"), cell)
