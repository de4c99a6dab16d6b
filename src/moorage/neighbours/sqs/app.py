"""The SQS API: the list of operations, and how one is done."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from moorage.aws import json11
from moorage.neighbours.json_app import Call, JsonApp, Members, Perform
from moorage.neighbours.keys import KeySource
from moorage.neighbours.sqs import batches, messages, queues
from moorage.neighbours.sqs.desk import Desk
from moorage.neighbours.sqs.faults import query_code

Operation = Callable[[Desk, Call, Members], Awaitable[dict[str, Any]]]

OPERATIONS: Mapping[str, Operation] = {
    "CreateQueue": queues.create_queue,
    "GetQueueUrl": queues.get_queue_url,
    "ListQueues": queues.list_queues,
    "GetQueueAttributes": queues.get_queue_attributes,
    "SetQueueAttributes": queues.set_queue_attributes,
    "PurgeQueue": queues.purge_queue,
    "DeleteQueue": queues.delete_queue,
    "SendMessage": messages.send_message,
    "SendMessageBatch": batches.send_message_batch,
    "ReceiveMessage": messages.receive_message,
    "DeleteMessage": messages.delete_message,
    "DeleteMessageBatch": batches.delete_message_batch,
    "ChangeMessageVisibility": messages.change_message_visibility,
    "ChangeMessageVisibilityBatch": batches.change_message_visibility_batch,
}

_LONGEST_BODY_BYTES = 8 * 2**20
"""The largest batch, with each character of it escaped."""


def sqs_app(desk: Desk, keys: KeySource) -> JsonApp:
    """Make the ASGI application that answers as SQS does."""
    return JsonApp(
        "sqs",
        {name: _performed_at(desk, operation) for name, operation in OPERATIONS.items()},
        keys,
        desk.clock,
        desk.ids,
        violation_code="InvalidParameterValueException",
        longest_body_bytes=_LONGEST_BODY_BYTES,
        content_type=json11.CONTENT_TYPE_1_0,
        query_code=query_code,
        # The model has the names of a queue's attributes there; clients ask for a message's.
        unchecked=[("ReceiveMessage", "AttributeNames")],
    )


def _performed_at(desk: Desk, operation: Operation) -> Perform:
    async def perform(call: Call, members: Members) -> dict[str, Any]:
        return await operation(desk, call, members)

    return perform
