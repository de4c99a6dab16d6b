"""The API of CloudWatch Logs: the list of its operations."""

from moorage.base.clock import Clock
from moorage.base.ids import Ids
from moorage.base.settings import Settings
from moorage.neighbours.json_app import JsonApp
from moorage.neighbours.keys import KeySource
from moorage.neighbours.logs.operations import Operations


def logs_app(settings: Settings, keys: KeySource, clock: Clock, ids: Ids) -> JsonApp:
    """Make the ASGI application that answers as CloudWatch Logs does."""
    operations = Operations(settings.data_dir / "logs", settings.limits.logs_kept_seconds)
    return JsonApp(
        "logs",
        {
            "DescribeLogGroups": operations.describe_log_groups,
            "DescribeLogStreams": operations.describe_log_streams,
            "GetLogEvents": operations.get_log_events,
            "FilterLogEvents": operations.filter_log_events,
        },
        keys,
        clock,
        ids,
        violation_code="InvalidParameterException",
        longest_body_bytes=settings.limits.api_body_bytes,
    )
