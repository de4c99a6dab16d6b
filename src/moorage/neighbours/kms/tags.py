"""Tags of keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from moorage.aws.errors import ClientFault
from moorage.iam.context import request_tags, tag_keys
from moorage.neighbours.kms.desk import Desk, Members, page

MOST_TAGS = 50


def tag_resource(desk: Desk, members: Members) -> dict[str, Any]:
    """Add tags, or give those that are there other values."""
    tags = read_tags(members["Tags"])
    key = desk.key("TagResource", members["KeyId"], request_tags(tags))
    if len({*key.tags, *tags}) > MOST_TAGS:
        raise ClientFault("LimitExceededException", f"A key has at most {MOST_TAGS} tags.")
    desk.ring.change_tags(key, add=tags)
    return {}


def untag_resource(desk: Desk, members: Members) -> dict[str, Any]:
    """Take tags away."""
    names: Sequence[str] = members["TagKeys"]
    desk.ring.change_tags(desk.key("UntagResource", members["KeyId"], tag_keys(names)), remove=names)
    return {}


def list_resource_tags(desk: Desk, members: Members) -> dict[str, Any]:
    """List the tags of a key."""
    tags = desk.key("ListResourceTags", members["KeyId"]).tags
    shown, further = page(sorted(tags), members, "tags", lambda name: [name])
    return {"Tags": [{"TagKey": name, "TagValue": tags[name]} for name in shown], **further}


def read_tags(entries: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Read a list of tags; raises TagException."""
    tags = {entry["TagKey"]: entry["TagValue"] for entry in entries}
    if len(tags) != len(entries):
        raise ClientFault("TagException", "Duplicate tag keys")
    if any(name.startswith("aws:") for name in tags):
        raise ClientFault("TagException", "Tags that begin with aws: are reserved.")
    if len(tags) > MOST_TAGS:
        raise ClientFault("LimitExceededException", f"A key has at most {MOST_TAGS} tags.")
    return tags
