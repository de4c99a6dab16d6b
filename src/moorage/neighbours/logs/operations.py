"""The operations of CloudWatch Logs that Moorage has, over the streams of one installation."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from moorage.aws.arns import partition_of
from moorage.aws.errors import ClientFault
from moorage.aws.paging import encode_token
from moorage.logs import names
from moorage.logs.reader import Event, StreamReader, created
from moorage.neighbours.json_app import Call, Members
from moorage.neighbours.logs import pages
from moorage.neighbours.logs.patterns import read_pattern

_PAGE = 50
_DAY_SECONDS = 86_400
_RETENTIONS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
)
"""Days that a retention policy of AWS can have."""

_NEWEST_FIRST_SINCE = 1_704_067_200_000
"""2024-01-01: FilterLogEvents gives the newest first only from then on."""

_GROUP_ARN = re.compile(r"arn:aws[a-z-]*:logs:([a-z0-9-]*):([0-9]{12}):log-group:([^:*]+)")

_AT_ONCE = 2
"""Calls that read files at a time: each takes a thread and most of a core."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Group:
    """A log group, as the caller has named it."""

    name: str
    folder: Path | None
    """None: it is not there."""

    def there(self) -> Path:
        """Give the folder; raises ResourceNotFoundException."""
        if self.folder is None:
            raise _not_found("The specified log group does not exist.")
        return self.folder


class Operations:
    """Reads the streams of one installation for who may."""

    def __init__(self, logs: Path, kept_seconds: float) -> None:
        """``kept_seconds`` is the age at which they are removed."""
        self._logs = logs
        days = int(kept_seconds // _DAY_SECONDS)
        self._retention = days if days in _RETENTIONS else None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def describe_log_groups(self, call: Call, members: Members) -> dict[str, Any]:
        """List the log groups of the caller's account and region."""
        _refuse_other_accounts(members)
        prefix, pattern = members.get("logGroupNamePrefix"), members.get("logGroupNamePattern")
        chosen = members.get("logGroupIdentifiers")
        if prefix is not None and pattern is not None:
            raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        if chosen is not None and (prefix is not None or pattern is not None or "logGroupClass" in members):
            raise _invalid("logGroupIdentifiers cannot be combined with other filters.")
        call.require("logs:DescribeLogGroups", _arn(call, "", ""))
        wanted = None if chosen is None else {_group_name(call, one) for one in chosen}
        filters = {"operation": "groups", "prefix": prefix, "pattern": pattern, "chosen": chosen}
        after = _after(members, filters, (str,))

        def read() -> dict[str, Any]:
            found = {
                name: folder
                for name, folder in names.groups(self._logs, call.account, call.region).items()
                if name.startswith(prefix or "")
                and (pattern or "") in name
                and (wanted is None or name in wanted)
                and members.get("logGroupClass", "STANDARD") == "STANDARD"
                and (after is None or name > after[0])
            }
            page, token = _page([(name,) for name in found], members, filters)
            shown = [self._show_group(call, name, found[name], brief=pattern is not None) for (name,) in page]
            return {"logGroups": shown, "nextToken": token}

        return await self._in_thread(read)

    async def describe_log_streams(self, call: Call, members: Members) -> dict[str, Any]:
        """List the streams of a log group."""
        group = self._group(call, members)
        call.require("logs:DescribeLogStreams", _arn(call, group.name, ""))
        prefix, by_time = members.get("logStreamNamePrefix"), members.get("orderBy") == "LastEventTime"
        if by_time and prefix is not None:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        descending = members.get("descending", False)
        filters = {"group": group.name, "prefix": prefix, "by_time": by_time, "descending": descending}
        after = _after(members, filters, (int, str) if by_time else (str,))

        def read() -> dict[str, Any]:
            found = {
                name: StreamReader(folder)
                for name, folder in names.streams(group.there()).items()
                if name.startswith(prefix or "")
            }
            keys: list[tuple[Any, ...]] = [
                (reader.last_time() or 0, name) if by_time else (name,) for name, reader in found.items()
            ]
            keys.sort(reverse=descending)
            left = [key for key in keys if after is None or (key < after if descending else key > after)]
            page, token = _page(left, members, filters)
            shown = [_show_stream(call, group.name, key[-1], found[key[-1]]) for key in page]
            return {"logStreams": shown, "nextToken": token}

        return await self._in_thread(read)

    async def get_log_events(self, call: Call, members: Members) -> dict[str, Any]:
        """Read one stream."""
        group, stream = self._group(call, members), members["logStreamName"]
        call.require("logs:GetLogEvents", _arn(call, group.name, stream))
        wanted = pages.Wanted(
            start=members.get("startTime"),
            end=members.get("endTime"),
            token=members.get("nextToken"),
            limit=members.get("limit"),
            from_head=members.get("startFromHead", False),
        )

        def read() -> dict[str, Any]:
            page = pages.read_page(StreamReader(_stream(group, stream)), wanted)
            return {
                "events": [_show_event(event) for event in page.events],
                "nextForwardToken": page.forward,
                "nextBackwardToken": page.backward,
            }

        return await self._in_thread(read)

    async def filter_log_events(self, call: Call, members: Members) -> dict[str, Any]:
        """Look for events in the streams of a log group."""
        group, chosen, prefix = self._group(call, members), members.get("logStreamNames"), _prefix(members)
        call.require("logs:FilterLogEvents", _arn(call, group.name, ""))
        start, from_head = members.get("startTime"), members.get("startFromHead", True)
        if not from_head and start is not None and start < _NEWEST_FIRST_SINCE:
            raise _invalid("startFromHead can be false only when startTime is on or after 2024-01-01T00:00:00Z.")
        pattern = members.get("filterPattern", "")
        wanted = pages.Search(
            start=start,
            end=members.get("endTime"),
            pattern=read_pattern(pattern),
            token=members.get("nextToken"),
            limit=members.get("limit"),
            from_head=from_head,
            filters={"group": group.name, "streams": chosen, "prefix": prefix, "pattern": pattern},
        )

        def read() -> dict[str, Any]:
            folder = group.there()
            found = (
                {name: path for name, path in names.streams(folder).items() if name.startswith(prefix or "")}
                if chosen is None
                else {name: _stream(group, name) for name in chosen}
            )
            page = pages.search({name: StreamReader(path) for name, path in found.items()}, wanted)
            shown = [
                {"logStreamName": name, "eventId": _event_id(name, event), **_show_event(event)}
                for name, event in page.events
            ]
            return {"events": shown, "searchedLogStreams": [], "nextToken": page.token}

        return await self._in_thread(read)

    async def _in_thread(self, read: Callable[[], T]) -> T:
        async with self._turns:
            return await asyncio.to_thread(read)

    def _group(self, call: Call, members: Members) -> _Group:
        """Find the log group that a request names, by its name or ARN."""
        name, identifier = members.get("logGroupName"), members.get("logGroupIdentifier")
        if name is not None and identifier is not None:
            raise _invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
        if identifier is not None:
            name = _group_name(call, identifier)
        if name is None:
            raise _invalid("Either logGroupName or logGroupIdentifier must be specified.")
        return _Group(name, names.find_group(self._logs, call.account, call.region, name))

    def _show_group(self, call: Call, name: str, folder: Path, *, brief: bool) -> dict[str, Any]:
        arn = _group_arn(call, name)
        shown: dict[str, Any] = {"logGroupName": name, "creationTime": created(folder), "arn": f"{arn}:*"}
        if brief:  # AWS shows no more to who asks with a pattern
            return shown
        stored = sum(segment.size for path in names.streams(folder).values() for segment in StreamReader(path).segments)
        return {
            **shown,
            "retentionInDays": self._retention,
            "metricFilterCount": 0,
            "storedBytes": stored,
            "logGroupClass": "STANDARD",
            "logGroupArn": arn,
        }


def _show_stream(call: Call, group: str, name: str, reader: StreamReader) -> dict[str, Any]:
    last = reader.last_time()
    return {
        "logStreamName": name,
        "creationTime": reader.created(),
        "firstEventTimestamp": reader.first_time(),
        "lastEventTimestamp": last,
        "lastIngestionTime": last,
        "arn": _arn(call, group, name),
        "storedBytes": 0,  # AWS tells no other number of a stream since 2019
    }


def _show_event(event: Event) -> dict[str, Any]:
    return {
        "timestamp": event.time,
        "message": event.message.decode(errors="replace"),
        "ingestionTime": event.time,
    }


def _event_id(stream: str, event: Event) -> str:
    """Make an id of 56 digits: of the time, the stream and the position, so it is the same whenever it is asked for."""
    of_stream = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big")
    return f"{event.time:016d}{of_stream:020d}{event.position:020d}"


def _page(
    keys: Sequence[tuple[Any, ...]], members: Members, filters: Mapping[str, Any]
) -> tuple[Sequence[tuple[Any, ...]], str | None]:
    """Cut a page off a list, with the token of the next one."""
    limit = members.get("limit", _PAGE)
    page = keys[:limit]
    return page, encode_token(page[-1], filters) if len(keys) > limit else None


def _after(members: Members, filters: Mapping[str, Any], kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    token = members.get("nextToken")
    return None if token is None else pages.read_token(token, filters, kinds)


def _prefix(members: Members) -> str | None:
    prefix: str | None = members.get("logStreamNamePrefix")
    if prefix is not None and "logStreamNames" in members:
        raise _invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
    return prefix


def _stream(group: _Group, name: str) -> Path:
    folder = names.find_stream(group.there(), name)
    if folder is None:
        raise _not_found("The specified log stream does not exist.")
    return folder


def _group_name(call: Call, identifier: str) -> str:
    """Read a name or an ARN; that of another account or region names nothing here, as without a monitoring account."""
    if not identifier.startswith("arn:"):
        return identifier
    found = _GROUP_ARN.fullmatch(identifier)
    if found is None:
        raise _invalid(
            f"The ARN of a log group must have the form {_group_arn(call, 'NAME')}, not {identifier[:200]!a}."
        )
    region, account, name = found.groups()
    if (region, account) != (call.region, call.account):
        raise _not_found("The specified log group does not exist.")
    return name


def _group_arn(call: Call, group: str) -> str:
    return f"arn:{partition_of(call.region)}:logs:{call.region}:{call.account}:log-group:{group}"


def _arn(call: Call, group: str, stream: str) -> str:
    return f"{_group_arn(call, group)}:log-stream:{stream}"


def _refuse_other_accounts(members: Members) -> None:
    for name in ("accountIdentifiers", "includeLinkedAccounts"):
        if members.get(name):
            raise _invalid(f"Moorage does not have {name} of DescribeLogGroups yet.")


def _invalid(message: str) -> ClientFault:
    return ClientFault("InvalidParameterException", message)


def _not_found(message: str) -> ClientFault:
    return ClientFault("ResourceNotFoundException", message)
