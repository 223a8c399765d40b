"""Every client of the stream begins with the newest cycle, however many were missed and whoever came before."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from serve_app.hub import Hub
from serve_app.schemas import FleetSummary, StreamMessage
from serve_app.watcher import KEPT_MESSAGES

SUMMARY = FleetSummary(servers=0, by_level={}, by_state={}, by_source={}, by_profile={}, p_any_30m=None, p_any_8h=None)


def message(number: int) -> StreamMessage:
    return StreamMessage(seq=number, type="cycle", origin=datetime.now(UTC), summary=SUMMARY, changes=[])


class Kept:
    """Messages as the watcher keeps them: those after a number, as soon as there is one."""

    def __init__(self) -> None:
        self.messages = [message(number) for number in range(KEPT_MESSAGES)]
        self.news = asyncio.Condition()

    async def poll(self, after: int) -> list[StreamMessage]:
        async with self.news:
            await self.news.wait_for(lambda: self.messages[-1].seq > after)
            return [one for one in self.messages if one.seq > after]

    async def add(self, count: int) -> None:
        async with self.news:
            last = self.messages[-1].seq
            self.messages += [message(last + number) for number in range(1, count + 1)]
            self.news.notify_all()


def test_every_client_begins_with_the_newest_message_and_then_gets_all() -> None:
    async def scene() -> None:
        kept = Kept()
        hub = Hub(kept.poll)
        with hub.client() as first:
            assert (await first.queue.get()).seq == KEPT_MESSAGES - 1
            with hub.client() as second:
                assert second.queue.get_nowait().seq == KEPT_MESSAGES - 1
                await kept.add(3)
                for client in (first, second):
                    assert [(await client.queue.get()).seq for _ in range(3)] == [64, 65, 66]
                    assert client.queue.empty()
                    assert not client.behind.is_set()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_after_many_missed_cycles_clients_go_on_with_the_newest() -> None:
    async def scene() -> None:
        kept = Kept()
        hub = Hub(kept.poll)
        with hub.client() as client:
            await client.queue.get()
            await kept.add(KEPT_MESSAGES)
            assert (await client.queue.get()).seq == 2 * KEPT_MESSAGES - 1
            assert client.queue.empty()
            assert not client.behind.is_set()

    asyncio.run(asyncio.wait_for(scene(), 30))
