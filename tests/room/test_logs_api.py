"""CloudWatch Logs as boto3 speaks it, over streams as the node agent writes them."""

import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.support.logs import MOMENT, Stream
from tests.support.neighbours import ALICE, BOB, CAROL, Neighbours, neighbours_in

GROUP = "/aws/sagemaker/Endpoints/wine"
ARN = f"arn:aws:logs:us-east-1:{ALICE.account_id}:log-group:{GROUP}"
COUNT = 2_500


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("logs")) as running:
        data = running.data_dir
        numbers = Stream(data, "a/i-1", segment_bytes=10_000)
        for number in range(COUNT):
            numbers.say(f"line {number}", at=MOMENT + number // 3)
        Stream(data, "a/i-2").say("ERROR of i-2", at=MOMENT + 100).say("", "after an empty line", at=MOMENT + 200)
        Stream(data, "b/i-3").say("ERROR of i-3", at=MOMENT + 150).begin("not done", at=MOMENT + 160)
        Stream(data, "b/i-4")
        Stream(data, "a/i-1", account=BOB.account_id).say("of another account")
        Stream(data, "a/i-1", region="eu-west-1").say("of another region")
        for number in range(60):
            Stream(data, "a/i-1", endpoint=f"many{number}", begun=MOMENT + number)
        yield running


@pytest.fixture
def logs(neighbours: Neighbours) -> Any:
    return neighbours.logs()


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def refused(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


# DescribeLogGroups


def test_a_group_is_described(logs: Any) -> None:
    (group,) = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    stored = group.pop("storedBytes")
    assert stored > COUNT * 30
    assert group == {
        "logGroupName": GROUP,
        "creationTime": MOMENT,
        "retentionInDays": 30,
        "metricFilterCount": 0,
        "arn": f"{ARN}:*",
        "logGroupArn": ARN,
        "logGroupClass": "STANDARD",
    }


def test_groups_are_listed_by_name_in_pages(logs: Any) -> None:
    first = logs.describe_log_groups()
    assert len(first["logGroups"]) == 50
    pages = logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix="/aws/sagemaker/Endpoints/many", PaginationConfig={"PageSize": 7}
    )
    found = [group["logGroupName"] for page in pages for group in page["logGroups"]]
    assert found == sorted(f"/aws/sagemaker/Endpoints/many{number}" for number in range(60))


def test_groups_are_chosen_by_parts_of_their_names_and_by_identifiers(logs: Any) -> None:
    (group,) = logs.describe_log_groups(logGroupNamePattern="points/win")["logGroups"]
    assert group == {"logGroupName": GROUP, "creationTime": MOMENT, "arn": f"{ARN}:*"}
    assert logs.describe_log_groups(logGroupNamePattern="WINE")["logGroups"] == []
    (group,) = logs.describe_log_groups(logGroupIdentifiers=[ARN])["logGroups"]
    assert group["logGroupName"] == GROUP
    assert logs.describe_log_groups(logGroupClass="DELIVERY")["logGroups"] == []
    assert len(logs.describe_log_groups(logGroupClass="STANDARD", limit=3)["logGroups"]) == 3


def test_accounts_and_regions_do_not_see_each_other(neighbours: Neighbours) -> None:
    assert messages(neighbours.logs(BOB).filter_log_events(logGroupName=GROUP)) == ["of another account"]
    other = neighbours.logs(region="eu-west-1")
    assert messages(other.get_log_events(logGroupName=GROUP, logStreamName="a/i-1")) == ["of another region"]
    assert neighbours.logs(region="eu-north-1").describe_log_groups()["logGroups"] == []


# DescribeLogStreams


def test_streams_are_described(logs: Any) -> None:
    first, second, third, silent = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert second == {
        "logStreamName": "a/i-2",
        "creationTime": MOMENT,
        "firstEventTimestamp": MOMENT + 100,
        "lastEventTimestamp": MOMENT + 200,
        "lastIngestionTime": MOMENT + 200,
        "arn": f"{ARN}:log-stream:a/i-2",
        "storedBytes": 0,
    }
    assert [one["logStreamName"] for one in (first, third, silent)] == ["a/i-1", "b/i-3", "b/i-4"]
    assert "lastEventTimestamp" not in silent


def test_streams_are_ordered_and_paged(logs: Any) -> None:
    def names(**members: Any) -> list[str]:
        pages = logs.get_paginator("describe_log_streams").paginate(
            logGroupName=GROUP, **members, PaginationConfig={"PageSize": 1}
        )
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    assert names() == ["a/i-1", "a/i-2", "b/i-3", "b/i-4"]
    assert names(descending=True) == ["b/i-4", "b/i-3", "a/i-2", "a/i-1"]
    assert names(logStreamNamePrefix="a/") == ["a/i-1", "a/i-2"]
    assert names(orderBy="LastEventTime") == ["b/i-4", "b/i-3", "a/i-2", "a/i-1"]
    assert names(orderBy="LastEventTime", descending=True) == ["a/i-1", "a/i-2", "b/i-3", "b/i-4"]
    assert refused(logs.describe_log_streams, logGroupName=GROUP, orderBy="LastEventTime", logStreamNamePrefix="a") == (
        "InvalidParameterException",
        "Cannot order by LastEventTime with a logStreamNamePrefix.",
    )


# GetLogEvents


def test_the_newest_events_come_unless_the_head_is_asked_for(logs: Any) -> None:
    newest = logs.get_log_events(logGroupName=GROUP, logStreamName="a/i-1", limit=3)
    assert messages(newest) == ["line 2497", "line 2498", "line 2499"]
    event = newest["events"][0]
    assert event == {"timestamp": MOMENT + 832, "message": "line 2497", "ingestionTime": MOMENT + 832}
    oldest = logs.get_log_events(logGroupIdentifier=ARN, logStreamName="a/i-1", limit=2, startFromHead=True)
    assert messages(oldest) == ["line 0", "line 1"]


def test_all_of_a_stream_is_read_forward_and_the_same_token_says_that_it_is_the_end(logs: Any) -> None:
    found, token, members = [], None, {"logGroupName": GROUP, "logStreamName": "a/i-1", "startFromHead": True}
    for calls in itertools.count():  # noqa: B007 - it is looked at behind the loop
        answer = logs.get_log_events(**members, limit=600, **({"nextToken": token} if token else {}))
        found += messages(answer)
        if token == answer["nextForwardToken"]:
            break
        token = answer["nextForwardToken"]
    assert found == [f"line {number}" for number in range(COUNT)]
    assert calls == 5
    assert answer["events"] == []
    before = logs.get_log_events(**members, nextToken=answer["nextBackwardToken"], limit=2)
    assert messages(before) == ["line 2498", "line 2499"]


def test_all_of_a_stream_is_read_backward(logs: Any) -> None:
    found: list[str] = []
    token = None
    while True:
        more: dict[str, Any] = {"nextToken": token} if token else {}
        answer = logs.get_log_events(logGroupName=GROUP, logStreamName="a/i-1", limit=999, **more)
        found[:0] = messages(answer)
        if token == answer["nextBackwardToken"]:
            break
        token = answer["nextBackwardToken"]
    assert found == [f"line {number}" for number in range(COUNT)]
    after = logs.get_log_events(
        logGroupName=GROUP, logStreamName="a/i-1", nextToken=answer["nextForwardToken"], limit=1
    )
    assert messages(after) == ["line 0"]


def test_a_span_of_time_has_its_start_and_not_its_end(logs: Any) -> None:
    members = {"logGroupName": GROUP, "logStreamName": "a/i-1", "startTime": MOMENT + 10, "endTime": MOMENT + 12}
    answer = logs.get_log_events(**members)
    assert messages(answer) == [f"line {number}" for number in range(30, 36)]
    assert logs.get_log_events(**members, nextToken=answer["nextForwardToken"])["events"] == []
    head = logs.get_log_events(**members, startFromHead=True, limit=4)
    assert messages(head) == [f"line {number}" for number in range(30, 34)]
    rest = logs.get_log_events(**members, startFromHead=True, nextToken=head["nextForwardToken"])
    assert messages(rest) == ["line 34", "line 35"]
    late = {**members, "startTime": MOMENT + 10**9, "endTime": MOMENT + 10**9 + 1}
    nothing = logs.get_log_events(**late)
    again = logs.get_log_events(**late, nextToken=nothing["nextForwardToken"])
    assert again["nextForwardToken"] == nothing["nextForwardToken"]


def test_a_token_goes_on_with_what_came_later(neighbours: Neighbours, logs: Any) -> None:
    stream = Stream(neighbours.data_dir, "a/i-1", endpoint="later", segment_bytes=300, segments=2).say("one")
    members = {"logGroupName": "/aws/sagemaker/Endpoints/later", "logStreamName": "a/i-1", "startFromHead": True}
    token = logs.get_log_events(**members)["nextForwardToken"]
    assert logs.get_log_events(**members, nextToken=token)["nextForwardToken"] == token
    stream.say("two").begin("thr")
    answer = logs.get_log_events(**members, nextToken=token)
    assert messages(answer) == ["two"]
    stream.say("ee", *(f"more {number}" for number in range(60)))
    rest = messages(logs.get_log_events(**members, nextToken=answer["nextForwardToken"]))
    assert rest[-1] == "more 59"
    assert "three" not in rest, "its file is gone; what is kept comes all the same"


def test_a_page_has_a_megabyte_at_most(neighbours: Neighbours, logs: Any) -> None:
    stream = Stream(neighbours.data_dir, "a/i-1", endpoint="large")
    for number in range(30):
        stream.say(f"{number:02d}" + "x" * 59_974)
    group = "/aws/sagemaker/Endpoints/large"
    answer = logs.get_log_events(logGroupName=group, logStreamName="a/i-1", startFromHead=True)
    assert len(answer["events"]) == 17
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    assert [len(page["events"]) for page in pages] == [17, 13, 0]


@pytest.mark.parametrize("token", ["x", "f/", "f/12x", "b/7/s", "f/9/t", "f/" + "1" * 57])
def test_a_token_that_nobody_gave_out_is_refused(logs: Any, token: str) -> None:
    wrong = ("InvalidParameterException", "The specified nextToken is invalid.")
    assert refused(logs.get_log_events, logGroupName=GROUP, logStreamName="a/i-1", nextToken=token) == wrong
    assert refused(logs.filter_log_events, logGroupName=GROUP, nextToken=token) == wrong
    assert refused(logs.describe_log_streams, logGroupName=GROUP, nextToken=token) == wrong


def test_a_token_is_good_for_its_own_search_only(logs: Any) -> None:
    token = logs.filter_log_events(logGroupName=GROUP, limit=1)["nextToken"]
    code, message = refused(logs.filter_log_events, logGroupName=GROUP, nextToken=token, filterPattern="x")
    assert (code, message) == ("InvalidParameterException", "The specified nextToken is invalid.")


# FilterLogEvents


def test_events_of_all_streams_come_by_time(logs: Any) -> None:
    answer = logs.filter_log_events(logGroupName=GROUP, startTime=MOMENT + 100, endTime=MOMENT + 150)
    found = [(event["logStreamName"], event["message"]) for event in answer["events"]]
    assert len(found) == 155
    assert found[:4] == [("a/i-1", f"line {number}") for number in (300, 301, 302)] + [("a/i-2", "ERROR of i-2")]
    assert found[-1] == ("b/i-3", "ERROR of i-3")
    assert answer["searchedLogStreams"] == []
    assert len({event["eventId"] for event in answer["events"]}) == 155
    assert all(len(event["eventId"]) == 56 and event["eventId"].isdigit() for event in answer["events"])


@pytest.mark.parametrize("page", [1, 2, 3, 50])
def test_paging_gives_each_event_once_in_either_direction(logs: Any, page: int) -> None:
    def ids(**members: Any) -> list[str]:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=GROUP,
            startTime=MOMENT + 140,
            endTime=MOMENT + 152,
            **members,
            PaginationConfig={"PageSize": page},
        )
        return [event["eventId"] for one in pages for event in one["events"]]

    whole = logs.filter_log_events(logGroupName=GROUP, startTime=MOMENT + 140, endTime=MOMENT + 152)
    expected = [event["eventId"] for event in whole["events"]]
    assert len(expected) == 13 * 3 + 1
    assert ids() == expected
    assert ids(startFromHead=False) == expected[::-1]


def test_events_are_found_by_pattern_and_stream(logs: Any) -> None:
    assert messages(logs.filter_log_events(logGroupName=GROUP, filterPattern="ERROR")) == [
        "ERROR of i-2",
        "ERROR of i-3",
    ]
    assert messages(logs.filter_log_events(logGroupName=GROUP, filterPattern='ERROR -"i-2"')) == ["ERROR of i-3"]
    found = logs.filter_log_events(logGroupIdentifier=GROUP, logStreamNames=["b/i-3", "b/i-4"])
    assert messages(found) == ["ERROR of i-3"]
    found = logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="a/i-2", interleaved=True)
    assert messages(found) == ["ERROR of i-2", "after an empty line"], "AWS has no empty events"
    code, message = refused(logs.filter_log_events, logGroupName=GROUP, filterPattern="a:b")
    assert (code, message) == ("InvalidParameterException", "Invalid character(s) in term ':'")


def test_a_page_with_events_has_a_token_and_the_last_has_neither(logs: Any) -> None:
    members = {"logGroupName": GROUP, "filterPattern": "ERROR"}
    first = logs.filter_log_events(**members)
    assert len(first["events"]) == 2
    last = logs.filter_log_events(**members, nextToken=first["nextToken"])
    assert (last["events"], "nextToken" in last) == ([], False)


# What is refused


def test_what_is_not_there_is_refused_in_awss_words(logs: Any) -> None:
    no_group = ("ResourceNotFoundException", "The specified log group does not exist.")
    no_stream = ("ResourceNotFoundException", "The specified log stream does not exist.")
    for group in ("/aws/sagemaker/Endpoints/none", "/aws/lambda/x", "/aws/sagemaker/Endpoints/..", GROUP + "/a"):
        assert refused(logs.filter_log_events, logGroupName=group) == no_group
        assert refused(logs.describe_log_streams, logGroupName=group) == no_group
        assert refused(logs.get_log_events, logGroupName=group, logStreamName="a/i-1") == no_group
    for stream in ("none", "a", "a/..", "../wine/a/i-1", "a/i-1/000000000000000.log"):
        assert refused(logs.get_log_events, logGroupName=GROUP, logStreamName=stream) == no_stream
    assert refused(logs.filter_log_events, logGroupName=GROUP, logStreamNames=["a/i-1", "a/i-9"]) == no_stream
    other = ARN.replace(ALICE.account_id, BOB.account_id)
    assert refused(logs.filter_log_events, logGroupIdentifier=other) == no_group


@pytest.mark.parametrize(
    ("operation", "members", "code", "message"),
    [
        (
            "get_log_events",
            {"logStreamName": "a/i-1"},
            "InvalidParameterException",
            "Either logGroupName or logGroupIdentifier must be specified.",
        ),
        (
            "get_log_events",
            {"logGroupName": GROUP, "logGroupIdentifier": ARN, "logStreamName": "a/i-1"},
            "InvalidParameterException",
            "LogGroup name and LogGroup ARN are mutually exclusive parameters.",
        ),
        (
            "filter_log_events",
            {"logGroupIdentifier": ARN + ":*"},
            "InvalidParameterException",
            "1 validation error detected: Value '" + ARN + ":*' at 'logGroupIdentifier' failed to satisfy constraint: "
            r"Member must satisfy regular expression pattern: [\w#+=/:,.@-]*",
        ),
        (
            "filter_log_events",
            {"logGroupName": GROUP, "logStreamNames": ["a"], "logStreamNamePrefix": "a"},
            "InvalidParameterException",
            "logStreamNames and logStreamNamePrefix are mutually exclusive parameters.",
        ),
        (
            "describe_log_streams",
            {"logGroupName": GROUP, "limit": 51},
            "InvalidParameterException",
            (
                "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: "
                "Member must have value less than or equal to 50"
            ),
        ),
        (
            "describe_log_groups",
            {"logGroupNamePrefix": "a", "logGroupNamePattern": "b"},
            "InvalidParameterException",
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ),
        (
            "describe_log_groups",
            {"includeLinkedAccounts": True},
            "InvalidParameterException",
            "Moorage does not have includeLinkedAccounts of DescribeLogGroups yet.",
        ),
        (
            "describe_log_groups",
            {"accountIdentifiers": ["123456789012"]},
            "InvalidParameterException",
            "Moorage does not have accountIdentifiers of DescribeLogGroups yet.",
        ),
        (
            "delete_log_group",
            {"logGroupName": GROUP},
            "UnknownOperationException",
            "Moorage does not have the operation DeleteLogGroup of Amazon CloudWatch Logs.",
        ),
        (
            "put_retention_policy",
            {"logGroupName": GROUP, "retentionInDays": 1},
            "UnknownOperationException",
            "Moorage does not have the operation PutRetentionPolicy of Amazon CloudWatch Logs.",
        ),
    ],
)
def test_request_is_refused(
    neighbours: Neighbours, operation: str, members: dict[str, Any], code: str, message: str
) -> None:
    client = neighbours.logs(parameter_validation=False)
    assert refused(getattr(client, operation), **members) == (code, message)


def test_who_may_read_one_group_reads_no_other(neighbours: Neighbours) -> None:
    carol = neighbours.logs(CAROL)
    assert messages(carol.get_log_events(logGroupName=GROUP, logStreamName="a/i-2"))
    assert carol.filter_log_events(logGroupName=GROUP, filterPattern="ERROR")["events"]
    reason = "because no identity-based policy allows the"
    user = f"User: arn:aws:iam::{CAROL.account_id}:user/carol is not authorized to perform:"
    at = f"on resource: arn:aws:logs:us-east-1:{CAROL.account_id}:log-group:"
    assert refused(carol.describe_log_groups) == (
        "AccessDeniedException",
        f"{user} logs:DescribeLogGroups {at}:log-stream: {reason} logs:DescribeLogGroups action",
    )
    assert refused(carol.describe_log_streams, logGroupName=GROUP) == (
        "AccessDeniedException",
        f"{user} logs:DescribeLogStreams {at}{GROUP}:log-stream: {reason} logs:DescribeLogStreams action",
    )
    other = GROUP.replace("wine", "many1")
    assert refused(carol.get_log_events, logGroupName=other, logStreamName="a/i-1") == (
        "AccessDeniedException",
        f"{user} logs:GetLogEvents {at}{other}:log-stream:a/i-1 {reason} logs:GetLogEvents action",
    )
    assert refused(carol.filter_log_events, logGroupName="/aws/not/there")[0] == "AccessDeniedException"


def test_who_is_not_known_is_refused_as_by_aws(neighbours: Neighbours) -> None:
    stranger = boto3.client(
        "logs",
        endpoint_url=neighbours.url,
        region_name="us-east-1",
        aws_access_key_id="AKIASTRANGER00000000",
        aws_secret_access_key="x",
    )
    code, message = refused(stranger.describe_log_groups)
    assert (code, message) == (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )


# Load


def test_a_full_page_of_a_large_stream_is_quick_and_holds_nobody_up(neighbours: Neighbours) -> None:
    stream = Stream(neighbours.data_dir, "a/i-1", endpoint="huge", segment_bytes=20 * 2**20)
    block = ["m" * 74] * 600  # with its time a line has 100 bytes
    for number in range(1_700):
        stream.say("\n".join(block), at=MOMENT + number * 10)
    group, logs, s3 = "/aws/sagemaker/Endpoints/huge", neighbours.logs(), neighbours.s3()
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(
            lambda: [
                logs.get_log_events(
                    logGroupName=group, logStreamName="a/i-1", startTime=MOMENT + time_, startFromHead=True
                )
                for time_ in range(0, 16_000, 4_000)
            ]
        )
        began = time.monotonic()
        while not reading.done():
            asked = time.monotonic()
            s3.list_buckets()
            slowest = max(slowest, time.monotonic() - asked)
        seconds = (time.monotonic() - began) / 4
        pages = reading.result()
    assert [len(page["events"]) for page in pages] == [10_000] * 4
    assert [page["events"][0]["timestamp"] - MOMENT for page in pages] == list(range(0, 16_000, 4_000))
    assert seconds < 1.0
    assert slowest < 0.5


def test_a_search_through_much_answers_in_parts(neighbours: Neighbours) -> None:
    stream = Stream(neighbours.data_dir, "a/i-1", endpoint="haystack", segment_bytes=20 * 2**20)
    block = ["hay"] * 1_000
    for number in range(210):
        stream.say("\n".join(block), *(["needle"] if number == 205 else []), at=MOMENT + number)
    pages = list(
        neighbours.logs()
        .get_paginator("filter_log_events")
        .paginate(logGroupName="/aws/sagemaker/Endpoints/haystack", filterPattern="needle")
    )
    assert [messages(page) for page in pages] == [[], [], ["needle"], []]


def test_a_request_that_is_no_json_is_refused(neighbours: Neighbours) -> None:
    request = urllib.request.Request(
        neighbours.url + "/",
        b"{",
        {
            "X-Amz-Target": "Logs_20140328.DescribeLogGroups",
            "Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/logs/aws4_request, SignedHeaders=host, "
            "Signature=0",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert json.loads(error.value.read())["__type"] == "SerializationException"
