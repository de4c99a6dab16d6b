"""What all List operations do alike: order, filters and tokens of the request, and the token of the answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from moorage.aws.paging import decode_token, encode_token
from moorage.control.operations.call import Members
from moorage.state.lists import Page

T = TypeVar("T")

_DEFAULT_RESULTS = 10
"""Documented for endpoints, taken for the others too (control-plane.md section 4.3)."""

_COLUMNS = {"Name": "name", "CreationTime": "created_at", "Status": "status"}


def page_of(request: Members, member: str) -> Page:
    """Read what a List request asks for; raises ValidationException for a token of another list.

    ``member`` is that of the answer that holds the items: no two lists have the same.
    """
    sort_by = request.get("SortBy", "CreationTime")
    after = None
    if (token := request.get("NextToken")) is not None:
        kind = float if sort_by == "CreationTime" else str
        after = decode_token(token, _filters(request, member), (kind, str))
    return Page(
        sort_by=_COLUMNS[sort_by],
        descending=request.get("SortOrder", "Descending") == "Descending",
        limit=request.get("MaxResults", _DEFAULT_RESULTS),
        after=after,
        name_contains=request.get("NameContains"),
        created_before=request.get("CreationTimeBefore"),
        created_after=request.get("CreationTimeAfter"),
        modified_before=request.get("LastModifiedTimeBefore"),
        modified_after=request.get("LastModifiedTimeAfter"),
        status=request.get("StatusEquals"),
    )


def answer(
    request: Members, member: str, page: Page, found: Sequence[T], summary: Callable[[T], dict[str, Any]]
) -> dict[str, Any]:
    """Make a List answer of a page and, when there is one, the first item of the next."""
    shown = found[: page.limit]
    token = None
    if len(found) > page.limit:
        last: Any = shown[-1]
        token = encode_token((getattr(last, page.sort_by), last.name), _filters(request, member))
    return {member: [summary(item) for item in shown], "NextToken": token}


def _filters(request: Members, member: str) -> Mapping[str, Any]:
    """Give what a token is bound to: the list, its filters and its order."""
    return {"List": member} | {
        name: value for name, value in request.items() if name not in {"NextToken", "MaxResults"}
    }
