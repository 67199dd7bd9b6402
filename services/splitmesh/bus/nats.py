"""Owns the bus over core NATS. Refuses JetStream: a live frame is not worth a disk write.

The connection is kept for ever: `connect_nats` waits for the first one, a lost one is made again, subscriptions
come back with it. While it is away, sends and waiting requests fail at once with BusUnavailable, so that an edge can
do the work itself; what had not left the process is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping

from splitmesh.bus.base import Message, MessageSink
from splitmesh.bus.border import LOST, check_url, translated, unanswerable, without_credentials
from splitmesh.bus.interest import BusState, Interest
from splitmesh.bus.link import LinkClient
from splitmesh.bus.replies import Replies, await_reply
from splitmesh.bus.rules import check_size, check_subject
from splitmesh.bus.security import NO_SECURITY, Security, SecurityError
from splitmesh.errors import BusError, BusUnavailable

_LOG = logging.getLogger(__name__)

PING_EVERY_S = 5
PINGS_OUTSTANDING = 2
RECONNECT_WAIT_S = (0.4, 0.8)
"""Drawn once per connection, so that a fleet does not come back in step."""
MAX_BACKLOG_BYTES = 8 * 1024 * 1024
CONFIRM_S = 2.0
DRAIN_S = 10.0
_CLIENT_BUFFER_BYTES = 1 << 30  # never reached: MAX_BACKLOG_BYTES refuses first, and refuses without blocking
_ASK_WHY_EVERY_S = 60.0


class NatsBus:
    """See splitmesh.bus.base.Bus. Made by `connect_nats`; lives on the event loop that made it."""

    def __init__(
        self, url: str, *, name: str, attempt_s: float, on_state: Callable[[str], None] | None, security: Security
    ) -> None:
        self.url = url
        self.display_url = without_credentials(url)
        self.name = name
        self.state = BusState.CONNECTING
        self._attempt_s = attempt_s
        self._on_state = on_state
        self._security = security
        self._client = self._fresh_client()
        self._replies = Replies(f"_INBOX.{secrets.token_urlsafe(9)}")
        self._interests: list[Interest] = []
        self._first = asyncio.Event()
        self._reason = ""
        self._reason_at = 0.0
        self._draining: asyncio.Task[None] | None = None
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"nats {name}")

    # connection

    def _fresh_client(self) -> LinkClient:
        return LinkClient(self._security, tls=self._security.requires_tls(self.url))

    async def _keep_connected(self) -> None:
        """Connect, and should the client ever give up for good, start over with a fresh one."""
        while True:
            client = self._client = self._fresh_client()
            ended = asyncio.Event()
            try:
                await self._connect(client, ended)
                await self._adopt(client)
            except LOST as exc:
                await self._on_error(exc)
                with contextlib.suppress(*LOST):
                    await client.close()
            else:
                self._first.set()
                await ended.wait()
                self._lost()
            await asyncio.sleep(random.uniform(*RECONNECT_WAIT_S))

    async def _connect(self, client: LinkClient, ended: asyncio.Event) -> None:
        async def on_disconnected() -> None:
            client.forget_pending()
            self._lost()

        async def on_reconnected() -> None:
            await self._begin_missing(client)  # those made while it was away; the others the client renewed
            self._enter(BusState.CONNECTED)

        async def on_closed() -> None:
            ended.set()

        try:
            login = self._security.login()
        except SecurityError as exc:  # it was right when the bus was made: somebody is replacing the file
            raise ConnectionError(str(exc)) from exc
        await client.connect(
            self.url,
            name=self.name,
            error_cb=self._on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
            connect_timeout=self._attempt_s,  # type: ignore[arg-type]  # fractions of a second work
            reconnect_time_wait=random.uniform(*RECONNECT_WAIT_S),  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=PING_EVERY_S,
            max_outstanding_pings=PINGS_OUTSTANDING,
            pending_size=_CLIENT_BUFFER_BYTES,
            **login,
        )

    async def _adopt(self, client: LinkClient) -> None:
        """Bring our inbox and subscriptions to a fresh client."""
        await client.listen(f"{self._replies.inbox}.*", "", self._take_reply)
        await self._begin_missing(client)
        self._enter(BusState.CONNECTED)

    async def _begin_missing(self, client: LinkClient) -> None:
        for interest in list(self._interests):
            if interest.client is not client:
                await self._begin_interest(client, interest)

    async def _begin_interest(self, client: LinkClient, interest: Interest) -> None:
        interest.client = client
        interest.nats = await client.listen(interest.subject, interest.queue, interest.take)

    def _take_reply(self, message: Message) -> None:
        if unanswerable(message):
            self._replies.refuse(message.subject)
        else:
            self._replies.settle(message)

    async def _on_error(self, error: Exception) -> None:
        """Called per failed attempt; tells each reason once, and again every minute."""
        reason, now = str(error) or type(error).__name__, time.monotonic()
        if reason != self._reason or now - self._reason_at > _ASK_WHY_EVERY_S:
            self._reason, self._reason_at = reason, now
            _LOG.warning("broker %s: %s (%s)", self.display_url, reason, self.state)

    def _lost(self) -> None:
        self._replies.fail_all(BusUnavailable(f"the connection to {self.display_url} was lost"))
        if self.state is BusState.CONNECTED and self._draining is None:
            self._enter(BusState.DISCONNECTED)

    def _enter(self, state: BusState) -> None:
        if state is self.state:
            return
        self.state = state
        if state is BusState.CONNECTED:
            self._reason = ""
        _LOG.log(
            logging.WARNING if state is BusState.DISCONNECTED else logging.INFO,
            "broker %s: %s",
            self.display_url,
            state,
        )
        if self._on_state is not None:
            self._on_state(state.value)

    # what Bus promises

    @property
    def connected(self) -> bool:
        return self.state is BusState.CONNECTED and self._client.is_connected

    @property
    def pending_bytes(self) -> int:
        return self._client.pending_bytes

    @property
    def max_payload_bytes(self) -> int:
        return self._client.max_payload

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        check_subject(subject, wildcards=False)
        if reply:
            check_subject(reply, wildcards=False)
        size = check_size(payload, headers or {}, self.max_payload_bytes)
        if not self.connected:
            raise BusUnavailable(f"no connection to {self.display_url} ({self.state})")
        if self.pending_bytes + size > MAX_BACKLOG_BYTES:
            raise BusUnavailable(f"{self.pending_bytes} bytes wait for the link to {self.display_url} already")
        with translated():
            await self._client.publish(subject, payload, reply, dict(headers) if headers else None)

    async def request(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Message:
        with self._replies.waiting(subject) as (reply, future):
            await self.publish(subject, payload, headers=headers, reply=reply)
            return await await_reply(future, subject, timeout_s)

    async def subscribe(self, subject: str, sink: MessageSink, *, queue: str = "") -> Interest:
        """Effective on return, if connected; else as soon as the connection is back."""
        check_subject(subject, wildcards=True)
        if queue:
            check_subject(queue, wildcards=False)
        if self._draining is not None:
            raise BusUnavailable("the bus is closing")
        interest = Interest(subject, queue, sink, self._end_interest)
        self._interests.append(interest)
        if self.connected:
            try:
                with translated():
                    await self._begin_interest(self._client, interest)
                await self._confirm()
            except BaseException:
                self._interests.remove(interest)
                interest.inlet.abort()
                raise
        return interest

    async def echo(self, *, timeout_s: float) -> None:
        with self._replies.waiting("our own inbox") as (subject, future):
            await self.publish(subject, b"")
            await await_reply(future, subject, timeout_s)

    async def drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name=f"drain {self.name}")
        await asyncio.shield(self._draining)

    # endings

    async def _confirm(self) -> bool:
        """True once the broker has handled all that we sent before."""
        try:
            await self.echo(timeout_s=CONFIRM_S)
        except BusError:
            return False
        return True

    async def _end_interest(self, interest: Interest) -> None:
        if interest not in self._interests:
            return
        self._interests.remove(interest)
        if interest.nats is None or interest.client is None:
            return
        try:
            async with asyncio.timeout(CONFIRM_S):
                await interest.nats.drain()  # type: ignore[no-untyped-call]
        except LOST:  # the broken connection ended it already
            interest.client.forget_subscription(interest.nats)

    async def _drain(self) -> None:
        interests = list(self._interests)
        await asyncio.gather(*(self._end_interest(interest) for interest in interests))
        closing = [asyncio.ensure_future(interest.inlet.close()) for interest in interests]
        if closing:
            _, late = await asyncio.wait(closing, timeout=DRAIN_S)
            for interest in interests if late else ():
                interest.inlet.abort()
            await asyncio.gather(*closing)
        if not (self.connected and await self._confirm()):
            self._client.forget_pending()
        self._replies.fail_all(BusUnavailable("the bus is closed"))
        self._keeper.cancel()
        await asyncio.wait({self._keeper})
        with contextlib.suppress(*LOST):
            async with asyncio.timeout(CONFIRM_S):
                await self._client.close()
        await asyncio.sleep(0)  # the client's cancelled tasks end in this turn
        self._enter(BusState.CLOSED)

    def __repr__(self) -> str:
        return (
            f"<NatsBus {self.display_url} {self.state} pending={self.pending_bytes} waiting={len(self._replies)} "
            f"subjects={[i.subject for i in self._interests]}>"
        )


async def connect_nats(
    url: str,
    *,
    name: str,
    security: Security = NO_SECURITY,
    connect_timeout_s: float = 2.0,
    give_up_s: float | None = None,
    on_state: Callable[[str], None] | None = None,
) -> NatsBus:
    """A connected bus; waits for the broker as long as it takes, or `give_up_s`.

    url: `nats://[user:password@]host[:port]` or `tls://…`. security: certificates and credentials, where the URL
    does not hold them. connect_timeout_s: of one attempt.
    on_state: told "connected", "disconnected", "closed" as they come, on the event loop.
    Raises BusError for a URL that can't work, SecurityError for a file that can't, BusUnavailable after `give_up_s`.
    """
    check_url(url)
    security.check(url)
    bus = NatsBus(url, name=name, attempt_s=connect_timeout_s, on_state=on_state, security=security)
    _LOG.info("broker %s: connecting", bus.display_url)
    try:
        async with asyncio.timeout(give_up_s):
            await bus._first.wait()
    except TimeoutError as exc:
        await bus.drain()
        raise BusUnavailable(
            f"no broker at {bus.display_url} within {give_up_s:g} s: {bus._reason or 'no answer'}",
            advice="is nats-server running there?",
        ) from exc
    except asyncio.CancelledError:
        await bus.drain()
        raise
    return bus
