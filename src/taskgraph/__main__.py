"""The command line: `taskgraph dev | serve | migrate | schema | seed | import | export | export-account | doctor`.

A command's docstring is its --help. What is expected to go wrong ends in one line on stderr and status 1, misuse in status 2.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from pymongo.errors import PyMongoError
from rich.console import Console

from taskgraph import dev as development
from taskgraph import doctor as examination
from taskgraph import logs, takeout, transfer
from taskgraph import schema as api
from taskgraph import seed as synthetic
from taskgraph import serve as serving
from taskgraph.errors import TaskgraphError
from taskgraph.formats.record import Format
from taskgraph.settings import Settings, load
from taskgraph.storage import migrate as migrations
from taskgraph.storage import mongo
from taskgraph.storage.mongo import Database

# Status of a command that Ctrl-C has ended, as Typer reports it.
INTERRUPTED = 130
MISUSED = 2

app = typer.Typer(
    name="taskgraph",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(*, is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"taskgraph {metadata.version('taskgraph')}")
        raise typer.Exit


@app.callback()
def taskgraph(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=lambda value: _show_version(is_asked=value), is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """A self-hosted GraphQL API server for task management."""


Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")]


@app.command()
def dev(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Annotated[Path, typer.Option(help="Folder for the databases' data; made when missing.")] = Path(".taskgraph"),
    *,
    demo: Annotated[bool, typer.Option("--demo/--no-demo", help="Load demo data and print two accounts, ready to use.")] = False,
) -> None:
    """Run everything on this machine: MongoDB and Valkey (unless their URLs are set), migrations, the server.

    Ctrl-C stops all of it; the data survives.
    """
    development.run(_configured(), host=host, port=port, folder=data, has_demo=demo)


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of processes.")] = 1,
) -> None:
    """Serve in production, on external MongoDB and Redis.

    Needs TASKGRAPH_MONGO_URL. Does not migrate: it refuses to start while migrations are missing, so run `taskgraph migrate`
    first. SIGTERM drains for up to 10 seconds.
    """
    serving.run(_configured(), host=host, port=port, workers=workers)


@app.command()
def migrate(
    *,
    status: Annotated[bool, typer.Option("--status", help="Only list the migrations and when they were applied.")] = False,
) -> None:
    """Apply the migrations that the database lacks, once each, in order. Safe to run in several processes at once."""
    asyncio.run(_with_database(_show_status if status else _migrate))


@app.command()
def schema(
    check: Annotated[Path | None, typer.Option(metavar="FILE", help="Compare with FILE; status 1 when it is stale.")] = None,
) -> None:
    """Print the GraphQL schema. Needs no settings and no database."""
    current = api.sdl().rstrip("\n") + "\n"
    if check is None:
        sys.stdout.write(current)
        return
    try:
        written = check.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskgraphError(f"{check} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from error
    if written != current:
        raise TaskgraphError(f"{check} is stale; write it anew with `taskgraph schema > {check}`")


@app.command()
def seed(
    users: Annotated[int, typer.Option(min=1, help="Accounts to make.")],
    tasks_per_user: Annotated[int, typer.Option(min=0, help="Tasks of each account.")],
    tokens: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an access token a line, valid for 24 h.")] = None,
    password: Annotated[str | None, typer.Option(help="Password of every account; none means nobody can log in.")] = None,
) -> None:
    """Make synthetic accounts and tasks for load tests."""

    async def fill(db: Database, settings: Settings) -> None:
        await synthetic.fill(db, settings, users=users, tasks_per_user=tasks_per_user, tokens=tokens, password=password)

    asyncio.run(_with_database(fill))


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to import; - reads standard input.")],
    email: Annotated[str, typer.Option(help="Whose tasks they become.")],
    format: Annotated[Format | None, typer.Option(help="Whose file it is; guessed when left out.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which list its ids belong to; the name of the file when left out.")
    ] = None,
) -> None:
    """Import tasks: Taskwarrior's export, the JSON of `gh issue list`, or CSV with a header.

    May be repeated: what is there already is left alone. Status 1 if a task was refused; each is listed with its reason.
    """

    async def take_in(db: Database, _settings: Settings) -> None:
        await transfer.take_in(db, file=file, email=email, of=format, source=source)

    asyncio.run(_with_database(take_in))


@app.command()
def export(
    email: Annotated[str, typer.Option(help="Whose tasks to export.")],
    format: Annotated[Format, typer.Option(help="For whom to write it.")] = Format.CSV,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to; standard output when left out.")] = None,
) -> None:
    """Export the tasks of an account that are not deleted, as `import` takes them."""

    async def give_back(db: Database, _settings: Settings) -> None:
        await transfer.give_back(db, file=file, email=email, of=format)

    asyncio.run(_with_database(give_back))


@app.command(name="export-account")
def export_account(
    email: Annotated[str, typer.Option(help="Whose account to export.")],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="A new file; standard output when left out.")] = None,
) -> None:
    """Export everything that is stored about an account as JSON, as `exportMyData` gives it to its owner."""

    async def give(db: Database, _settings: Settings) -> None:
        await takeout.write(db, email=email, file=output)

    asyncio.run(_with_database(give))


@app.command()
def doctor() -> None:
    """Check settings, connections and versions, and say what to do about each failure. Status 1 if anything FAILED."""
    if not asyncio.run(_examine()):
        raise TaskgraphError("some checks FAILED; the lines above say what to do")


async def _examine() -> bool:
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    styles = {examination.Verdict.OK: "green", examination.Verdict.WARNING: "yellow", examination.Verdict.FAILED: "bold red"}
    is_healthy = True
    async for finding in examination.examine():
        is_healthy = is_healthy and finding.verdict is not examination.Verdict.FAILED
        console.print(f"{finding.verdict:8} {finding.check:12} {finding.what}", style=styles[finding.verdict])
    return is_healthy


def _configured() -> Settings:
    settings = load()
    logs.configure(settings)
    return settings


async def _with_database(work: Callable[[Database, Settings], Awaitable[None]]) -> None:
    settings = _configured()
    db = mongo.connect(settings)
    try:
        await work(db, settings)
    finally:
        await db.close()


async def _migrate(db: Database, _settings: Settings) -> None:
    applied = await migrations.apply(db, on_progress=_show_progress)
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("nothing to do")


def _show_progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{name}  {done} of {total}", end="" if done < total else "\r\033[K", file=sys.stderr, flush=True)


async def _show_status(db: Database, _settings: Settings) -> None:
    for each in await migrations.status(db):
        when = "pending" if each.applied_at is None else f"applied {each.applied_at:%Y-%m-%d %H:%M:%S} UTC"
        print(f"{each.name}  {when}{'' if each.is_known else '  (unknown to this version)'}")


def run(arguments: list[str]) -> int:
    """The exit status; whatever was expected to go wrong has been said on stderr, anything else is a bug and raises."""
    try:
        status = app(arguments or ["--help"], standalone_mode=False, prog_name="taskgraph")
    except typer.TyperException as error:
        return _refused(error.format_message(), status=error.exit_code)
    except PyMongoError as error:
        return _refused(f"MongoDB: {serving.mongo_reason(error)}")
    except TaskgraphError as error:
        return _refused(str(error))
    if status == INTERRUPTED:
        return _refused("interrupted")
    return 0 if arguments else MISUSED


def _refused(message: str, *, status: int = 1) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
