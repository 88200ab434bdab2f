"""What the doctor makes of what the servers have told: a check each. No I/O, and no clock.

What concerns Redis's memory and disk is judged in hot/durability.py, which is also asked when a saver opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from langgraph_tiered_checkpoint.cold.examination import Grants, Server
from langgraph_tiered_checkpoint.cold.schema import OFFICIAL_VERSION, TIERED_VERSION, Inventory
from langgraph_tiered_checkpoint.hot import durability
from langgraph_tiered_checkpoint.hot.permissions import GRANTS
from langgraph_tiered_checkpoint.plans.binding import Here, Layout, described, not_of_one_store
from langgraph_tiered_checkpoint.records import Check, Tables, Verdict, Worker
from langgraph_tiered_checkpoint.steps import Pooling

MIN_REDIS: Final = (6, 2)
MIN_POSTGRES: Final = 12

WHY: Final = {
    "redis": "Nothing is read or written without it.",
    "redis permissions": "What is refused fails when it is needed: some of it only by a delete, or by the promoter.",
    **durability.WHY,
    "promoter": "Nobody else brings Postgres up to date: promoted threads wait in Redis, where they have no TTL.",
    "postgres": "Promoted threads are kept there, and whoever opens a new thread asks it first.",
    "postgres permissions": "What is refused fails when it is needed: some of it only by a delete, or by setup.",
    "row security": "A thread whose rows are hidden looks deleted, and its hot copy would be dropped.",
    "schema": "Statements need the tables and columns of this version.",
    "indexes": "Every answer is the same without them, but lists and deletes read whole tables.",
    "pooler": "A statement that one session has prepared is unknown in another one: calls fail now and then.",
    "binding": "A Redis that flushed into the Postgres of another store would mix up the threads of both.",
    "clocks": "Ages, TTLs and what was deleted when are told by Redis's clock, and ids of checkpoints by the caller's.",
}
"""Why each check matters, in the order in which they are listed."""

_LATE: Final = timedelta(minutes=1)
_OFF_S, _FAR_OFF_S = 1.0, 60.0
"""How far a clock may be from ours before it is worth a word, and before deletes may not be final."""


class Skew(NamedTuple):
    """How far a server's clock is from ours."""

    of: str
    ahead_s: float
    margin_s: float
    """How much of that the round trip may be."""


def check(name: str, verdict: Verdict, found: str, remedy: str = "") -> Check:
    """A check of that name."""
    return Check(name=name, verdict=verdict, found=found, why=WHY[name], remedy=remedy)


def redis_itself(infos: Sequence[dict[str, str]]) -> Check:
    """Whether the server is new enough."""
    told = [(info.get("valkey_version", ""), info["redis_version"]) for info in infos if "redis_version" in info]
    if not told:
        return check("redis", "ok", "it answers, and does not tell its version (INFO is refused)")
    valkey, version = min(told, key=lambda of: _numbers(of[1]))
    if _numbers(version) < MIN_REDIS:
        return check("redis", "failure", f"Redis {version}", "Upgrade it to Redis 6.2 or newer, or to Valkey 7.2")
    return check("redis", "ok", f"Valkey {valkey}" if valkey else f"Redis {version}")


def redis_permissions(refused: Sequence[str]) -> Check:
    """Whether the user may run what scripts do."""
    name = "redis permissions"
    if refused:
        return check(name, "failure", f"the user lacks {', '.join(refused)}", f"Grant it: {GRANTS}")
    return check(name, "ok", "the user may run all that scripts do")


def promoter(workers: Sequence[Worker], due: int, overdue: timedelta | None) -> Check:
    """Whether somebody flushes."""
    late = overdue is not None and overdue > _LATE
    behind = f"{due:,} to flush" + (f", the first for {_span(overdue)}" if overdue and late else "")
    if not workers:
        found = "none has said within the last two minutes that it is alive"
        remedy = 'Run `lgt worker`, or open a saver with promoter="embedded" (`with saver:`) and keep it open'
        return check("promoter", "failure" if due else "warning", f"{found}; {behind}" if due else found, remedy)
    alive = f"{len(workers)} alive ({', '.join(f'{w.program} on {w.host}' for w in workers[:3])}"
    alive += ", ...)" if len(workers) > 3 else ")"
    if late:
        remedy = "See their logs, `lgt status` for parked threads, and whether Postgres keeps up; or run more workers"
        return check("promoter", "warning", f"{alive}, but {behind}", remedy)
    return check("promoter", "ok", alive)


def postgres_itself(server: Server) -> Check:
    """Whether the server is new enough, and takes writes."""
    found = f"Postgres {server.version_text.split(' ')[0]}, role {server.role}"
    if server.version // 10_000 < MIN_POSTGRES:
        return check("postgres", "failure", found, f"Upgrade it to Postgres {MIN_POSTGRES} or newer")
    if server.is_standby:
        remedy = "Point the URL at the primary, with target_session_attrs=read-write if it names several hosts"
        return check("postgres", "failure", f"{found}: a standby, which takes no writes", remedy)
    if server.is_read_only:
        remedy = "Turn default_transaction_read_only off for the role or the database"
        return check("postgres", "failure", f"{found}: transactions are read-only", remedy)
    return check("postgres", "ok", found)


def postgres_permissions(grants: Grants, *, makes: bool) -> Check:
    """Whether the role may do what is needed. `makes`: tables or columns have yet to be made."""
    name = "postgres permissions"
    at = f"schema {grants.schema}" if grants.schema else "the schema"
    lacks = list(grants.lacks)
    if grants.schema and not grants.uses:
        lacks.append(f"USAGE on {at}")
    elif grants.schema and makes and not grants.creates:
        lacks.append(f"CREATE on {at}, where tables have yet to be made")
    if lacks:
        remedy = "GRANT it to the role, as the owner of the tables; or run setup once as a role that has it"
        return check(name, "failure", f"the role lacks {', '.join(lacks)}", remedy)
    return check(name, "ok", "the role may do all that is needed")


def row_security(tables: Sequence[str]) -> Check:
    """Whether rows may be hidden."""
    if not tables:
        return check("row security", "ok", "no policy applies to the role")
    remedy = (
        "Connect as a role that owns the tables or has BYPASSRLS, or ALTER TABLE ... DISABLE ROW LEVEL SECURITY; "
        "`scoped` keeps tenants apart without it"
    )
    return check("row security", "failure", f"policies may hide rows of {', '.join(tables)}", remedy)


def schema(found: Inventory, *, auto_setup: bool) -> Check:
    """Whether the tables are of this version."""
    if found.tiered > TIERED_VERSION:
        said = f"version {found.tiered}, and this package knows up to {TIERED_VERSION}"
        return check("schema", "failure", said, "Upgrade langgraph-tiered-checkpoint here")
    if found.lacks:
        absent = ", ".join(found.lacks)
        said = f"behind: there is no {absent}" if found.tables else "there are no tables yet"
        if auto_setup:
            return check("schema", "warning", said, "The first use makes them; or run `lgt setup` before")
        return check("schema", "failure", said, "Run `lgt setup`, or the SQL of `lgt setup --print-ddl`, once")
    if found.official > OFFICIAL_VERSION:
        said = f"langgraph-checkpoint-postgres has taken its tables to version {found.official}"
        remedy = f"This package knows up to {OFFICIAL_VERSION}: look whether there is a newer one"
        return check("schema", "warning", said, remedy)
    return check("schema", "ok", f"version {found.tiered}, of langgraph-checkpoint-postgres {found.official}")


def indexes(found: Inventory) -> Check:
    """Whether they are there and usable."""
    missing = [name for name in found.unindexed if name not in found.indexes]
    invalid = [name for name in found.unindexed if name in found.indexes]
    if not found.tables:
        return check("indexes", "ok", "they come with the tables")
    if not missing and not invalid:
        return check("indexes", "ok", "all there")
    said = [f"missing: {', '.join(missing)}"] * bool(missing)
    said += [f"invalid (being built, or a build was interrupted): {', '.join(invalid)}"] * bool(invalid)
    remedy = "Run `lgt setup`, which builds them without holding anybody up"
    return check("indexes", "warning", "; ".join(said), remedy)


def pooler(found: Pooling) -> Check:  # noqa: PLR0911 - a table
    """Whether prepared statements survive what is between us and Postgres."""
    if not found.between:
        return check("pooler", "ok", "none between us and Postgres")
    if not found.shared:
        return check("pooler", "ok", "one, or a proxy, that keeps each connection its session")
    kind = "one that shares sessions between transactions"
    remedy = "Pass prepare_statements=False, or set max_prepared_statements in PgBouncer 1.22 or newer"
    if not found.prepares:
        return check("pooler", "ok", f"{kind}; statements are not prepared here")
    if found.forgets:
        return check("pooler", "failure", f"{kind}, and prepared statements are lost with them", remedy)
    if found.forgets is None:
        return check("pooler", "warning", f"{kind}; whether prepared statements survive that was not seen", remedy)
    if not found.closes:
        said = f"{kind}; the libpq here is older than 17, and cannot tell it that a prepared statement is done with"
        remedy = "Use a newer libpq (the extra [binary] has one), or pass prepare_statements=False"
        return check("pooler", "warning", said, remedy)
    return check("pooler", "ok", f"{kind}, and knows prepared statements")


def binding(here: Here, said: str, tables: Tables) -> Check:
    """Whether both tiers are of one store."""
    layout = Layout.parse(said)
    remedy = "Choose another schema or key_prefix; after a move or a restore, `lgt setup --take-over` binds them"
    if layout is None:
        return check("binding", "failure", f"Redis holds layout {said!r}, of another version of this package", remedy)
    if layout.store and layout.store == tables.store:
        return check("binding", "ok", f"both are of store {layout.store}")
    if layout.kind != "new" or (tables.store and tables.redis != described(here)):
        return check("binding", "failure", str(not_of_one_store(here, layout, tables)), remedy)
    if tables.store:
        said = f"Redis has lost all data of store {tables.store}; what Postgres holds goes on with the first use"
        return check("binding", "warning", said, "Give Redis persistence, or find out who emptied it")
    return check("binding", "ok", "not bound yet: the first use of Postgres does it")


def clocks(skews: Sequence[Skew]) -> Check:
    """Whether the clocks of the servers and ours agree."""
    told = [f"{s.of} is {abs(s.ahead_s):.1f} s {'ahead' if s.ahead_s > 0 else 'behind'}" for s in skews]
    worst = max((abs(s.ahead_s) - s.margin_s for s in skews), default=0.0)
    if worst <= _OFF_S:
        return check("clocks", "ok", f"{' and '.join(s.of for s in skews)}: within a second of here")
    remedy = "Let NTP keep the clocks of all machines"
    return check("clocks", "failure" if worst > _FAR_OFF_S else "warning", "; ".join(told) + " of here", remedy)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _span(age: timedelta | None) -> str:
    return str(timedelta(seconds=round(age.total_seconds()))) if age is not None else ""
