"""Messages: sent, received, deleted, shown again."""

import asyncio
import base64
import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from moorage.aws.errors import ClientFault
from moorage.neighbours.json_app import Call, Members
from moorage.neighbours.sqs import attributes, digests, rows
from moorage.neighbours.sqs.desk import Desk, find, key_of
from moorage.neighbours.sqs.faults import invalid, invalid_handle, invalid_value, missing, unsupported
from moorage.neighbours.sqs.rows import Message, Queue, QueueKey, Sent

_MOST_RECEIVED = 10
_LONGEST_WAIT_SECONDS = 20
_LONGEST_DELAY_SECONDS = 900
_LONGEST_VISIBILITY_SECONDS = 43_200
_MOST_ATTRIBUTES = 10
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HANDLE = re.compile(r"[0-9a-f-]{36}")
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\..{1,245})?")


async def send_message(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Put a message into a queue; it is on the disk when this is answered."""
    key = key_of(call, request["QueueUrl"], "SendMessage")
    (sent,) = await send(desk, key, [read_sent(desk, call, request)], call.now)
    return told(sent)


def read_sent(desk: Desk, call: Call, members: Members) -> Sent:
    """Check one message of a request."""
    for member in ("MessageDeduplicationId", "MessageGroupId"):
        if member in members:
            raise unsupported(f"{member}, which is for FIFO queues")
    body, given = members["MessageBody"], members.get("MessageAttributes", {})
    if not body:
        raise missing("MessageBody")
    if _NOT_IN_XML.search(body):
        raise ClientFault(
            "InvalidMessageContents",
            "Invalid binary character was found in the message body, the set of allowed characters is #x9 | #xA | #xD "
            "| #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.",
        )
    if len(given) > _MOST_ATTRIBUTES:
        raise invalid(f"Number of message attributes [{len(given)}] exceeds the allowed maximum [{_MOST_ATTRIBUTES}].")
    delay = members.get("DelaySeconds")
    if delay is not None and not 0 <= delay <= _LONGEST_DELAY_SECONDS:
        raise invalid_value("DelaySeconds", delay, "DelaySeconds must be >= 0 and <= 900.")
    system = {name: value["StringValue"] for name, value in members.get("MessageSystemAttributes", {}).items()}
    return Sent(
        message_id=desk.ids.request_id(),
        sender=call.caller.credential.access_key_id,
        body=body,
        attributes={name: _kept(name, value) for name, value in given.items()},
        system=system,
        delay_seconds=delay,
    )


def _kept(name: str, attribute: Mapping[str, Any]) -> dict[str, Any]:
    """Check a message's attribute; bytes become base64, so that JSON takes them."""
    data_type = attribute["DataType"]
    if not _DATA_TYPE.fullmatch(data_type):
        raise invalid(f"The type of message attribute '{name}' is invalid. You must use only Binary, Number or String.")
    member = "BinaryValue" if data_type.startswith("Binary") else "StringValue"
    value = attribute.get(member)
    if not value:
        raise invalid(f"Message attribute '{name}' must contain a non-empty {member} for its type {data_type}.")
    return {"DataType": data_type, member: base64.b64encode(value).decode() if isinstance(value, bytes) else value}


async def send(desk: Desk, key: QueueKey, messages: Sequence[Sent], now: float) -> Sequence[Sent]:
    """Put messages into a queue, all or none, and wake who waits for them."""

    def put(connection: Connection) -> None:
        queue = find(connection, key)
        most = int(attributes.with_defaults(queue.attributes)["MaximumMessageSize"])
        for sent in messages:
            _check_size(sent, most)
            rows.put(connection, queue, sent, now)

    await desk.store.transact(put)
    desk.bells.ring(key)
    return messages


def _check_size(sent: Sent, most: int) -> None:
    if _size_of(sent) > most:
        raise invalid(f"Message must be shorter than {most} bytes.")


def _size_of(sent: Sent) -> int:
    """Give the bytes of a message that count for the limits: those of its body and its attributes."""
    parts = (text for name, value in sent.attributes.items() for text in (name, *value.values()))
    return len(sent.body.encode()) + sum(len(text.encode()) for text in parts)


def told(sent: Sent) -> dict[str, Any]:
    """Give what the sender is told of a message."""
    return {
        "MessageId": sent.message_id,
        "MD5OfMessageBody": digests.of_body(sent.body),
        "MD5OfMessageAttributes": digests.of_attributes(sent.attributes),
    }


async def receive_message(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Take messages out of a queue's sight, and wait for one when that is asked for."""
    key = key_of(call, request["QueueUrl"], "ReceiveMessage")
    most = request.get("MaxNumberOfMessages", 1)
    if not 1 <= most <= _MOST_RECEIVED:
        raise invalid_value("MaxNumberOfMessages", most, "Must be between 1 and 10, if provided.")
    wait, visibility = request.get("WaitTimeSeconds"), request.get("VisibilityTimeout")
    if wait is not None and not 0 <= wait <= _LONGEST_WAIT_SECONDS:
        raise invalid_value("WaitTimeSeconds", wait, "Must be >= 0 and <= 20, if provided.")
    _check_visibility(visibility)
    if "ReceiveRequestAttemptId" in request:
        raise unsupported("ReceiveRequestAttemptId, which is for FIFO queues")
    found = await _receive(desk, key, most, wait, visibility)
    return {"Messages": [_shown(message, request) for message in found] or None}


def _check_visibility(seconds: int | None) -> None:
    if seconds is not None and not 0 <= seconds <= _LONGEST_VISIBILITY_SECONDS:
        raise invalid_value("VisibilityTimeout", seconds, "Must be between 0 and 43200, if provided.")


async def _receive(desk: Desk, key: QueueKey, most: int, wait: int | None, visibility: int | None) -> list[Message]:
    clock = desk.clock
    began = clock.monotonic()
    while True:
        with desk.bells.listening(key) as bell:  # before the look: what comes in between is heard
            queue, due = await desk.store.read(lambda connection: _look(connection, key, clock.now()))
            settings = attributes.with_defaults(queue.attributes)
            if due is not None and due <= clock.now():
                hidden = float(settings["VisibilityTimeout"]) if visibility is None else visibility
                handles = [desk.ids.request_id() for _ in range(most)]
                taken = await desk.store.transact(
                    lambda connection, handles=handles, hidden=hidden: rows.take(  # type: ignore[misc]
                        connection, find(connection, key), handles, hidden, clock.now()
                    )
                )
                if taken:
                    return taken
            seconds = int(settings["ReceiveMessageWaitTimeSeconds"]) if wait is None else wait
            deadline = began + seconds
            if clock.monotonic() >= deadline:
                return []
            left = deadline - clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if due is None else min(left, max(0.0, due - clock.now()))):
                    await bell.wait()


def _look(connection: Connection, key: QueueKey, now: float) -> tuple[Queue, float | None]:
    queue = find(connection, key)
    return queue, rows.next_visible_at(connection, queue, now)


def _shown(message: Message, request: Members) -> dict[str, Any]:
    system = {
        "SenderId": message.sender,
        "SentTimestamp": _milliseconds(message.sent_at),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": _milliseconds(message.first_received_at),
        **message.system,
    }
    asked = {*request.get("AttributeNames", ()), *request.get("MessageSystemAttributeNames", ())}
    shown = {name: value for name, value in system.items() if "All" in asked or name in asked}
    wanted = request.get("MessageAttributeNames", ())
    given = {name: value for name, value in message.attributes.items() if _is_wanted(name, wanted)}
    return {
        "MessageId": message.message_id,
        "ReceiptHandle": base64.b64encode(message.handle.encode()).decode(),
        "MD5OfBody": digests.of_body(message.body),
        "Body": message.body,
        "Attributes": shown or None,
        "MD5OfMessageAttributes": digests.of_attributes(given),
        "MessageAttributes": {name: _as_given(value) for name, value in given.items()} or None,
    }


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    """Say whether an attribute is asked for: all are, or its name, or the beginning of it with ``.*``."""
    return any(
        pattern in {"All", ".*", name} or (pattern.endswith(".*") and name.startswith(pattern[:-1]))
        for pattern in wanted
    )


def _as_given(attribute: Mapping[str, Any]) -> dict[str, Any]:
    if "BinaryValue" not in attribute:
        return dict(attribute)
    return {**attribute, "BinaryValue": base64.b64decode(attribute["BinaryValue"])}


def read_handle(text: str) -> str:
    """Read a receipt handle; raises ReceiptHandleIsInvalid for what never was one."""
    try:
        handle = base64.b64decode(text, validate=True).decode()
    except ValueError as fault:
        raise invalid_handle(text) from fault
    if not _HANDLE.fullmatch(handle):
        raise invalid_handle(text)
    return handle


async def delete_message(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Delete a message that was received; with a handle of an earlier time nothing happens, as on AWS."""
    key = key_of(call, request["QueueUrl"], "DeleteMessage")
    await delete(desk, key, request["ReceiptHandle"])
    return {}


async def delete(desk: Desk, key: QueueKey, handle: str) -> None:
    """Delete the message of a handle."""
    read = read_handle(handle)
    await desk.store.transact(lambda connection: rows.drop(connection, find(connection, key), read))


async def change_message_visibility(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Let a message in flight be seen again earlier or later."""
    key = key_of(call, request["QueueUrl"], "ChangeMessageVisibility")
    await change_visibility(desk, key, request["ReceiptHandle"], request["VisibilityTimeout"])
    return {}


async def change_visibility(desk: Desk, key: QueueKey, handle: str, seconds: int) -> None:
    """Let the message of a handle be seen after a time."""
    _check_visibility(seconds)
    read, now = read_handle(handle), desk.clock.now()
    in_flight = await desk.store.transact(
        lambda connection: rows.show_again(connection, find(connection, key), read, seconds, now)
    )
    if not in_flight:
        reason = "Message does not exist or is not available for visibility timeout change."
        raise invalid_value("ReceiptHandle", handle, reason)
    desk.bells.ring(key)
