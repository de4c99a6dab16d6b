"""Queues: made, found, listed, described, changed, emptied, deleted."""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from moorage.aws.errors import ClientFault
from moorage.aws.paging import decode_token, encode_token
from moorage.neighbours.json_app import Call, Members
from moorage.neighbours.sqs import attributes, rows
from moorage.neighbours.sqs.desk import Desk, arn_of, find, key_of, url_of
from moorage.neighbours.sqs.faults import invalid_value, no_queue, unsupported
from moorage.neighbours.sqs.rows import Queue, QueueKey

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_MOST_LISTED = 1_000


async def create_queue(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Make a queue; one of this name with the same attributes is given again."""
    name = request["QueueName"]
    key = QueueKey(call.account, call.region, name)
    call.require("sqs:CreateQueue", arn_of(key))
    if name.endswith(".fifo"):
        raise unsupported("FIFO queues")
    if not _NAME.fullmatch(name):
        message = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        raise ClientFault("InvalidParameterValueException", message)
    if request.get("tags"):
        raise unsupported("tags of queues")
    given = attributes.check(request.get("Attributes", {}))

    def make(connection: Connection) -> None:
        queue = rows.find(connection, key)
        if queue is None:
            rows.add(connection, key, given, call.now)
        elif (other := _first_other(queue, given)) is not None:
            message = f"A queue already exists with the same name and a different value for attribute {other}"
            raise ClientFault("QueueNameExists", message)

    await desk.store.transact(make)
    return {"QueueUrl": url_of(call, key)}


def _first_other(queue: Queue, given: Mapping[str, str]) -> str | None:
    there = attributes.with_defaults(queue.attributes)
    return next((name for name, value in given.items() if there.get(name) != value), None)


async def get_queue_url(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Give a queue's URL."""
    key = QueueKey(call.account, call.region, request["QueueName"])
    call.require("sqs:GetQueueUrl", arn_of(key))
    if request.get("QueueOwnerAWSAccountId", call.account) != call.account:
        raise no_queue()
    await desk.store.read(lambda connection: find(connection, key))
    return {"QueueUrl": url_of(call, key)}


async def list_queues(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """List the caller's queues; by pages only when a number is given."""
    call.require("sqs:ListQueues", f"arn:aws:sqs:{call.region}:{call.account}:*")
    prefix, limit = request.get("QueueNamePrefix", ""), request.get("MaxResults", _MOST_LISTED)
    if not 1 <= limit <= _MOST_LISTED:
        raise invalid_value("MaxResults", limit, f"Must be between 1 and {_MOST_LISTED}, if provided.")
    after = ""
    if (token := request.get("NextToken")) is not None:
        (after,) = decode_token(token, {"List": "queues", "Prefix": prefix}, (str,))
    last = QueueKey(call.account, call.region, after)
    found = await desk.store.read(lambda connection: rows.names(connection, last, prefix=prefix, limit=limit + 1))
    shown = found[:limit]
    urls = [url_of(call, QueueKey(call.account, call.region, name)) for name in shown]
    more = len(found) > limit and "MaxResults" in request
    token = encode_token((shown[-1],), {"List": "queues", "Prefix": prefix}) if more else None
    return {"QueueUrls": urls or None, "NextToken": token}


async def get_queue_attributes(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Describe a queue."""
    key = key_of(call, request["QueueUrl"], "GetQueueAttributes")
    asked = set(request.get("AttributeNames", ()))

    def read(connection: Connection) -> dict[str, str]:
        queue = find(connection, key)
        counted = map(str, rows.counts(connection, queue, call.now))
        return {
            **attributes.with_defaults(queue.attributes),
            **dict(zip(attributes.COUNTED, counted, strict=True)),
            "CreatedTimestamp": str(int(queue.created_at)),
            "LastModifiedTimestamp": str(int(queue.modified_at)),
            "QueueArn": arn_of(key),
        }

    described = await desk.store.read(read)
    return {"Attributes": {name: value for name, value in described.items() if "All" in asked or name in asked} or None}


async def set_queue_attributes(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Change a queue's attributes; an empty Policy takes it away."""
    key = key_of(call, request["QueueUrl"], "SetQueueAttributes")
    given = attributes.check(request["Attributes"])

    def change(connection: Connection) -> None:
        queue = find(connection, key)
        kept = {name: value for name, value in queue.attributes.items() if name not in request["Attributes"]}
        rows.change(connection, queue, {**kept, **given}, call.now)

    await desk.store.transact(change)
    return {}


async def purge_queue(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Delete all messages of a queue."""
    key = key_of(call, request["QueueUrl"], "PurgeQueue")
    await desk.store.transact(lambda connection: rows.purge(connection, find(connection, key)))
    return {}


async def delete_queue(desk: Desk, call: Call, request: Members) -> dict[str, Any]:
    """Delete a queue and its messages; who waits for some is told that it is gone."""
    key = key_of(call, request["QueueUrl"], "DeleteQueue")
    await desk.store.transact(lambda connection: rows.remove(connection, find(connection, key)))
    desk.bells.ring(key)
    return {}
