"""Writers and subscribers at work, while something else does the damage; at the end, what they have noted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from chaos import writer
from chaos.history import History, Seen, Stored, StoredEvent, Stream
from chaos.program import NotReady, until
from chaos.site import DATABASE, Site
from chaos.subscriber import Subscriber
from chaos.writer import Notes, Writer
from taskgraph.storage import event_log

# Twice the longest that a write may take until it is refused, and an election.
PATIENCE_SECONDS = 60
# A process that was started again may have to catch up first.
DRAIN_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Load:
    """How much goes on: of each of the users, so many writers and so many subscribers, some of whom reconnect without a reason."""

    users: int = 4
    writers: int = 2
    pace_seconds: float = 0.15
    subscribers: int = 3
    restless: int = 1
    restless_seconds: float = 3
    # Characters that are added to the description of each task.
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes on. `notes` has those of each user."""

    site: Site
    client: httpx.AsyncClient
    notes: Sequence[Notes]
    streams: Sequence[Stream]
    subscribers: Sequence[Subscriber]
    writing: Sequence["asyncio.Task[None]"]
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def written_since(self, moment: float) -> float:
        """Waits for a write that was asked for after `moment` and done; the seconds from `moment` to its acknowledgement."""

        async def is_written() -> bool:
            return any(write.answered_sent_at > moment for notes in self.notes for write in notes.acknowledged[-10:])

        await until(is_written, what="a write that is acknowledged again", within_seconds=PATIENCE_SECONDS)
        return min(w.at for notes in self.notes for w in notes.acknowledged if w.answered_sent_at > moment) - moment

    async def finish(self, *, drain_seconds: float = DRAIN_SECONDS) -> History:
        """Lets every writer have its last answer and every subscriber its last event, if it ever comes."""
        self.is_over.set()
        _, unfinished = await asyncio.wait(self.writing, timeout=PATIENCE_SECONDS)
        if unfinished:
            raise NotReady(f"{len(unfinished)} writes were not acknowledged within {PATIENCE_SECONDS} s")
        for task in self.writing:
            task.result()
        with contextlib.suppress(NotReady):  # The checks will say what is missing.
            await until(self._all_is_told, what="every event", within_seconds=drain_seconds)
        for stream, subscriber in zip(self.streams, self.subscribers, strict=True):
            subscriber.finish()
            stream.gaps, stream.refusals, stream.interruptions = subscriber.gaps, subscriber.refusals, subscriber.interruptions
        return History(
            [notes.acknowledged for notes in self.notes],
            [failure for notes in self.notes for failure in notes.failures],
            self.streams,
            await self._stored(),
        )

    async def _all_is_told(self) -> bool:
        written = [{(write.task_id, write.version) for write in notes.acknowledged} for notes in self.notes]
        return all(written[stream.user] <= {(seen.task_id, seen.version) for seen in stream.seen} for stream in self.streams)

    async def _stored(self) -> Stored:
        titles = [await writer.titles(self.client, self.site.tokens[user]) for user in range(len(self.notes))]
        events = await asyncio.to_thread(self._events)
        return Stored([title for found in titles for title in found], events)

    def _events(self) -> list[StoredEvent]:
        with self.site.mongo.client() as client:
            found = client[DATABASE][event_log.COLLECTION].find({}, {"subjectId": 1, "version": 1, "causedBy": 1})
            return [StoredEvent(str(event["subjectId"]), event["version"], event["causedBy"]) for event in found]


@contextlib.asynccontextmanager
async def flowing(site: Site, load: Load) -> AsyncIterator[Traffic]:
    """Traffic through the proxy, once every subscriber is there; it ends with the block."""
    streams = [
        Stream(f"subscriber {user}.{number}", user)
        for user in range(load.users)
        for number in range(load.subscribers + load.restless)
    ]
    subscribers = [
        Subscriber(
            site.proxy.port,
            site.tokens[stream.user],
            partial(heard, stream),
            restless_seconds=load.restless_seconds if number % (load.subscribers + load.restless) < load.restless else None,
        )
        for number, stream in enumerate(streams)
    ]
    notes = [Notes() for _ in range(load.users)]
    is_over = asyncio.Event()
    async with httpx.AsyncClient(base_url=site.url, limits=httpx.Limits(max_connections=None)) as client:
        writers = [
            Writer(f"{user}.{number}", client, site.tokens[user], notes[user], load.pace_seconds, load.padding)
            for user in range(load.users)
            for number in range(load.writers)
        ]
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(subscriber.run()) for subscriber in subscribers]
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*(subscriber.is_live.wait() for subscriber in subscribers))
            writing = [tasks.create_task(each.run(is_over)) for each in writers]
            try:
                yield Traffic(site, client, notes, streams, subscribers, writing, is_over)
            finally:
                for task in (*writing, *listening):
                    task.cancel()


def heard(stream: Stream, message: dict[str, Any], at: float) -> None:
    """Notes an event."""
    task = message["task"] or {"description": None}
    # What stands behind the key is padding.
    shown = task["description"] and task["description"].partition(" ")[0]
    stream.seen.append(Seen(message["id"], message["taskId"], message["version"], at, message["causedBy"], shown))
