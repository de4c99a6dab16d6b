"""Up to ten of a kind in one request; what is wrong with one of them is told of that one."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from moorage.aws.errors import ClientFault, OurFault, ServiceError
from moorage.neighbours.json_app import Call, Members
from moorage.neighbours.sqs import messages
from moorage.neighbours.sqs.attributes import LARGEST_MESSAGE_BYTES
from moorage.neighbours.sqs.desk import Desk, key_of
from moorage.neighbours.sqs.faults import query_code

_MOST_ENTRIES = 10
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")

Entry = Mapping[str, Any]


async def send_message_batch(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Put messages into a queue."""
    key = key_of(call, request["QueueUrl"], "SendMessage")
    entries = _entries(request, "SendMessageBatchRequestEntry")
    total = sum(len(entry["MessageBody"].encode()) for entry in entries)
    if total > LARGEST_MESSAGE_BYTES:
        message = f"Batch requests cannot be longer than {LARGEST_MESSAGE_BYTES} bytes. You have sent {total} bytes."
        raise ClientFault("BatchRequestTooLong", message)

    async def send(entry: Entry) -> dict[str, Any]:
        (sent,) = await messages.send(desk, key, [messages.read_sent(desk, call, entry)], call.now)
        return messages.told(sent)

    return await _each(entries, send)


async def delete_message_batch(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Delete messages that were received."""
    key = key_of(call, request["QueueUrl"], "DeleteMessage")

    async def delete(entry: Entry) -> dict[str, Any]:
        await messages.delete(desk, key, entry["ReceiptHandle"])
        return {}

    return await _each(_entries(request, "DeleteMessageBatchRequestEntry"), delete)


async def change_message_visibility_batch(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Let messages in flight be seen again earlier or later."""
    key = key_of(call, request["QueueUrl"], "ChangeMessageVisibility")

    async def change(entry: Entry) -> dict[str, Any]:
        await messages.change_visibility(desk, key, entry["ReceiptHandle"], entry.get("VisibilityTimeout", 0))
        return {}

    return await _each(_entries(request, "ChangeMessageVisibilityBatchRequestEntry"), change)


def _entries(request: Members, kind: str) -> Sequence[Entry]:
    """Give a batch's entries; raises what is wrong with the batch as a whole."""
    entries: Sequence[Entry] = request["Entries"]
    if not entries:
        raise ClientFault("EmptyBatchRequest", f"There should be at least one {kind} in the request.")
    if len(entries) > _MOST_ENTRIES:
        message = f"Maximum number of entries per request are {_MOST_ENTRIES}. You have sent {len(entries)}."
        raise ClientFault("TooManyEntriesInBatchRequest", message)
    names = [entry["Id"] for entry in entries]
    if not all(map(_ID.fullmatch, names)):
        message = (
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 "
            "letters long."
        )
        raise ClientFault("InvalidBatchEntryId", message)
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ClientFault("BatchEntryIdsNotDistinct", f"Id {repeated} repeated.")
    return entries


async def _each(entries: Sequence[Entry], work: Callable[[Entry], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Do the work for each entry; a queue that is not there fails all of them."""
    done, failed = [], []
    for entry in entries:
        try:
            done.append({"Id": entry["Id"], **await work(entry)})
        except ServiceError as fault:
            if fault.code == "QueueDoesNotExist":
                raise
            failed.append(_failure(entry["Id"], fault))
    return {"Successful": done, "Failed": failed}


def _failure(name: str, fault: ServiceError) -> dict[str, Any]:
    ours = isinstance(fault, OurFault)
    return {"Id": name, "SenderFault": not ours, "Code": query_code(fault.code), "Message": fault.message}
