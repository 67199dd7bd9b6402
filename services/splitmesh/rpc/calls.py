"""Owns the way of a call to the method that answers it: who asks, how large a message may be, how errors end it.

A service is any object with a coroutine for each method of its descriptor, named as there:

    unary               async def Infer(self, request, call) -> reply
    server streaming    async def Watch(self, request, call) -> None       call.write(reply)
    both streaming      async def Analyze(self, call) -> None              call.read(), call.write(reply)

Messages come in as bytes and are parsed here, so that one that is too long or malformed is refused by name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError as ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from splitmesh.errors import AccessDenied, MeshError, Overloaded, PayloadTooLarge, WireError
from splitmesh.rpc.status import code_for, status_for

_log = logging.getLogger(__name__)

_message_taken: ContextVar[list[bool]] = ContextVar("message taken")
"""Of the call whose task this is."""

A = TypeVar("A")
M = TypeVar("M", bound=Message)

_AUTHORIZATION = "authorization"
_BEARER = "bearer "
_SHOWN_CHARS = 120


class Refusal(StrEnum):
    """Why a call was turned away before anybody looked at what it asks."""

    NO_TOKEN = "no-token"
    UNKNOWN_TOKEN = "unknown-token"
    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    CROWDED = "crowded"
    NO_MESSAGE = "no-message"
    """A call ended before its message was there: it is too long even for the transport, or the caller went."""


@dataclass(frozen=True, slots=True)
class Door(Generic[A]):
    """What every call has to pass.

    admit: the account that a token stands for, None if nobody's; its argument is "" where none was shown.
    refused: told each refusal. ended: told method, status code and seconds of each call.
    """

    admit: Callable[[str], A | None]
    max_message_bytes: int
    max_calls: int
    refused: Callable[[Refusal], None]
    ended: Callable[[str, str, float], None]


class CallerGone(MeshError):
    """Nobody is left to be told."""


class Call(Generic[A]):
    """One call, as the method that answers it sees it."""

    def __init__(self, account: A, context: Any, method: MethodDescriptor, guard: Guard[A]) -> None:
        self.account = account
        self._context = context
        self._guard = guard
        self._kind = GetMessageClass(method.input_type)

    def left_s(self) -> float | None:
        """To its deadline; None: it has none."""
        left: float | None = self._context.time_remaining()
        return left

    @property
    def traceparent(self) -> str | None:
        """The caller's W3C trace context."""
        return _metadata(self._context).get("traceparent")

    async def read(self) -> Any:
        """The next message, None at the end of the caller's stream. Raises PayloadTooLarge, WireError."""
        raw = await self._context.read()
        return None if raw is grpc.aio.EOF else self._guard.parsed(self._kind, raw)

    async def write(self, message: Message) -> None:
        """Returns once the transport has taken it: a caller that reads slowly makes this wait. Raises CallerGone."""
        try:
            await self._context.write(message)
        except grpc.aio.InternalError as exc:
            raise CallerGone("the caller went before it took its reply") from exc


class Guard(Generic[A]):
    """Lets calls of one server through its door."""

    def __init__(self, door: Door[A]) -> None:
        self._door = door
        self._turned_away: dict[str, Any] = {}
        """By the path of a method with one message: the handler that refuses it unread."""
        self._awaited = 0
        """Calls whose one message is on its way."""
        self.calls = 0
        """Under way."""

    def handlers(self, descriptor: ServiceDescriptor, service: object) -> Any:
        """The grpc.GenericRpcHandler of all methods of `service`."""
        for method in descriptor.methods:
            if not method.client_streaming:
                self._turned_away[f"/{descriptor.full_name}/{method.name}"] = self._refusing(method)
        made = {method.name: self._handler(method, getattr(service, method.name)) for method in descriptor.methods}
        return grpc.method_handlers_generic_handler(descriptor.full_name, made)

    def let_in(self, handler: Any, method: str, metadata: Iterable[tuple[str, Any]]) -> Any:
        """`handler`, or one that refuses the call before its one message is read: what strangers send, and calls
        beyond the limit, shall not wait in memory until it is whole. To be called in the task of the call."""
        refusing = self._turned_away.get(method)
        if refusing is None:
            return handler
        if self.calls + self._awaited >= self._door.max_calls or self._door.admit(_token(_texts(metadata))) is None:
            return refusing
        self._watch_for_message()
        return handler

    def _watch_for_message(self) -> None:
        """The library tells nobody of a call that it ends itself."""
        taken, task = [False], asyncio.current_task()
        _message_taken.set(taken)

        def ended(_: asyncio.Task[Any]) -> None:
            if not taken[0]:
                self._awaited -= 1
                self._refuse(Refusal.NO_MESSAGE, "cut off or gone")

        if task is not None:
            task.add_done_callback(ended)
            self._awaited += 1

    def parsed(self, kind: type[M], raw: bytes) -> M:
        """Raises PayloadTooLarge, WireError."""
        if len(raw) > self._door.max_message_bytes:
            self._refuse(Refusal.TOO_LARGE, f"{len(raw)} bytes")
            raise PayloadTooLarge(
                f"the message has {len(raw)} bytes: there may be {self._door.max_message_bytes}",
                advice="send smaller pictures, or coded ones",
            )
        try:
            return kind.FromString(raw)
        except ParseError as exc:
            self._refuse(Refusal.MALFORMED, f"{len(raw)} bytes")
            raise WireError(f"{len(raw)} bytes are not a {kind.__name__}: {exc}") from exc

    def _refusing(self, method: MethodDescriptor) -> Any:
        async def refused(_: Call[A]) -> None:
            raise Overloaded("too many calls are under way")

        async def answer(_: Any, context: Any) -> None:
            await self._run(context, method, refused)

        return grpc.stream_stream_rpc_method_handler(answer)

    def _handler(self, method: MethodDescriptor, serve: Callable[..., Any]) -> Any:
        request = GetMessageClass(method.input_type)

        async def unary(raw: bytes, context: Any) -> Message:
            _message_taken.get()[0] = True
            self._awaited -= 1
            reply: Message = await self._run(context, method, lambda call: serve(self.parsed(request, raw), call))
            return reply

        async def stream(_: Any, context: Any) -> None:
            await self._run(context, method, serve)

        serialize = _serialized
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=serialize)
        if method.client_streaming:
            raise TypeError(f"{method.full_name} streams in alone, which no service here does")
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(unary, response_serializer=serialize)
        return grpc.unary_unary_rpc_method_handler(unary, response_serializer=serialize)

    async def _run(self, context: Any, method: MethodDescriptor, serve: Callable[[Call[A]], Any]) -> Any:
        with self._counted(method) as told:
            try:
                account = self._admitted(context)
                return await serve(Call(account, context, method, self))
            except CallerGone as exc:
                raise asyncio.CancelledError(exc.message) from exc
            except MeshError as exc:
                told.append(code_for(exc).name)
                code, text, metadata = status_for(exc)
            except Exception:  # noqa: BLE001 - logged, and said to the caller; other calls go on
                told.append(grpc.StatusCode.INTERNAL.name)
                _log.exception("%s failed", method.full_name)
                code, text, metadata = grpc.StatusCode.INTERNAL, "a fault of the gateway; its log says more", ()
            await context.abort(code, text, metadata)

    def _admitted(self, context: Any) -> A:
        """Raises AccessDenied, Overloaded."""
        token = _token(_metadata(context))
        account = self._door.admit(token)
        if account is None:
            self._refuse(Refusal.UNKNOWN_TOKEN if token else Refusal.NO_TOKEN, f"of {context.peer()!a}")
            raise AccessDenied(
                "this token is nobody's" if token else "no token was shown",
                advice='send "authorization: Bearer TOKEN" as metadata',
            )
        if self.calls + self._awaited > self._door.max_calls:
            self._refuse(Refusal.CROWDED, f"{self.calls} calls are under way")
            raise Overloaded("too many calls are under way", advice="end some, or try again later")
        return account

    def _refuse(self, refusal: Refusal, detail: str) -> None:
        self._door.refused(refusal)
        _log.warning("a call was refused (%s): %s", refusal.value, detail[:_SHOWN_CHARS])

    @contextmanager
    def _counted(self, method: MethodDescriptor) -> Iterator[list[str]]:
        """Told the name of the status code by whoever knows a bad one."""
        started, told = time.monotonic(), list[str]()
        self.calls += 1
        try:
            yield told
        except asyncio.CancelledError:
            told.append(grpc.StatusCode.CANCELLED.name)
            raise
        finally:
            self.calls -= 1
            code = told[0] if told else grpc.StatusCode.OK.name
            self._door.ended(method.name, code, time.monotonic() - started)


class Doorway(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Shows a guard each call before its first message is read."""

    def __init__(self, guard: Guard[Any]) -> None:
        self._guard = guard

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = await continuation(details)
        return None if handler is None else self._guard.let_in(handler, details.method, details.invocation_metadata)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _metadata(context: Any) -> Mapping[str, str]:
    return _texts(context.invocation_metadata() or ())


def _texts(pairs: Iterable[tuple[str, Any]]) -> Mapping[str, str]:
    return {key: value for key, value in pairs if isinstance(value, str)}


def _token(metadata: Mapping[str, str]) -> str:
    """ "" where none is shown."""
    shown = metadata.get(_AUTHORIZATION, "")
    return shown[len(_BEARER) :].strip() if shown.lower().startswith(_BEARER) else ""
