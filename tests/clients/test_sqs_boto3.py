"""SQS through an unmodified boto3, over a socket, against the neighbours process."""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.neighbours import ALICE, BOB, DORA, Neighbours, neighbours_in

NAMES = (f"q-{number}" for number in itertools.count())
ACCOUNT = ALICE.account_id


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    with neighbours_in(tmp_path_factory.mktemp("sqs")) as running:
        yield running


@pytest.fixture(scope="module")
def sqs(neighbours: Neighbours) -> Any:
    return neighbours.sqs()


@pytest.fixture
def queue(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName=next(NAMES))["QueueUrl"])


def error_of(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def bodies(sqs: Any, queue: str, **members: Any) -> list[str]:
    received = sqs.receive_message(QueueUrl=queue, **{"MaxNumberOfMessages": 10, **members})
    return [message["Body"] for message in received.get("Messages", ())]


def test_a_message_comes_as_it_was_sent_and_goes_when_it_is_deleted(sqs: Any, queue: str) -> None:
    attributes = {
        "text": {"DataType": "String", "StringValue": "Größe"},
        "number": {"DataType": "Number.int", "StringValue": "7"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    # boto3 itself verifies the digests of both answers.
    sent = sqs.send_message(QueueUrl=queue, MessageBody="<one> & ü", MessageAttributes=attributes)
    (got,) = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"], AttributeNames=["All"])["Messages"]
    assert (got["MessageId"], got["Body"]) == (sent["MessageId"], "<one> & ü")
    assert got["MessageAttributes"] == attributes
    assert got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert (got["Attributes"]["SenderId"], got["Attributes"]["ApproximateReceiveCount"]) == (ALICE.access_key_id, "1")
    assert got["Attributes"]["SentTimestamp"] <= got["Attributes"]["ApproximateFirstReceiveTimestamp"]
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=got["ReceiptHandle"])
    assert counted(sqs, queue) == (0, 0, 0)


def counted(sqs: Any, queue: str) -> tuple[int, ...]:
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    suffixes = ("", "NotVisible", "Delayed")
    return tuple(int(attributes[f"ApproximateNumberOfMessages{suffix}"]) for suffix in suffixes)


def test_a_message_that_is_not_deleted_is_seen_again_with_another_handle(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="one")
    (first,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert counted(sqs, queue) == (0, 1, 0)
    handle = {"QueueUrl": queue, "ReceiptHandle": first["ReceiptHandle"]}
    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
    (second,) = sqs.receive_message(QueueUrl=queue, AttributeNames=["ApproximateReceiveCount"])["Messages"]
    assert second["Attributes"] == {"ApproximateReceiveCount": "2"}
    assert second["ReceiptHandle"] != first["ReceiptHandle"]
    sqs.delete_message(**handle)  # of an earlier time: nothing happens
    assert counted(sqs, queue) == (0, 1, 0)
    code, message = error_of(sqs.change_message_visibility, **handle, VisibilityTimeout=0)
    assert code == "InvalidParameterValue"
    assert message.endswith("Message does not exist or is not available for visibility timeout change.")


def test_who_waits_is_answered_when_a_message_comes_or_is_seen_again(neighbours: Neighbours, queue: str) -> None:
    sqs = neighbours.sqs()
    got: list[list[str]] = []
    waiting = threading.Thread(target=lambda: got.append(bodies(neighbours.sqs(), queue, WaitTimeSeconds=20)))
    waiting.start()
    sqs.send_message(QueueUrl=queue, MessageBody="one")
    waiting.join(15)
    assert got == [["one"]]
    sqs.send_message(QueueUrl=queue, MessageBody="two", DelaySeconds=1)
    assert bodies(sqs, queue) == []
    assert counted(sqs, queue)[2] == 1
    assert bodies(sqs, queue, WaitTimeSeconds=20) == ["two"]


def test_messages_survive_a_kill(tmp_path: Path) -> None:
    with neighbours_in(tmp_path) as running:
        sqs = running.sqs()
        queue = sqs.create_queue(QueueName="kept", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        entries = [{"Id": str(number), "MessageBody": f"m{number}"} for number in range(10)]
        assert len(sqs.send_message_batch(QueueUrl=queue, Entries=entries)["Successful"]) == 10
        running.kill()
        running.start()
        again = running.sqs()
        queue = again.get_queue_url(QueueName="kept")["QueueUrl"]
        assert sorted(bodies(again, queue)) == [f"m{number}" for number in range(10)]


def test_a_batch_tells_of_each_entry(sqs: Any, queue: str) -> None:
    entries = [{"Id": "good", "MessageBody": "one"}, {"Id": "bad", "MessageBody": "\x00"}]
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    ((failed),) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "InvalidMessageContents", True)
    (got,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    handles = [{"Id": "a", "ReceiptHandle": got["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": "no handle"}]
    changed = sqs.change_message_visibility_batch(
        QueueUrl=queue, Entries=[{**entry, "VisibilityTimeout": 60} for entry in handles]
    )
    deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=handles)
    for done in (changed, deleted):
        assert [entry["Id"] for entry in done["Successful"]] == ["a"]
        assert [entry["Code"] for entry in done["Failed"]] == ["ReceiptHandleIsInvalid"]
    assert counted(sqs, queue) == (0, 0, 0)


def test_a_queue_is_found_listed_changed_emptied_and_deleted(neighbours: Neighbours) -> None:
    sqs = neighbours.sqs(region="eu-west-1")
    urls = [sqs.create_queue(QueueName=f"list-{number}")["QueueUrl"] for number in range(3)]
    assert urls[0] == f"{neighbours.url}/{ACCOUNT}/list-0"
    assert sqs.get_queue_url(QueueName="list-0")["QueueUrl"] == urls[0]
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix="list-", PaginationConfig={"PageSize": 2})
    assert [page["QueueUrls"] for page in pages] == [urls[:2], urls[2:]]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="none")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    sqs.set_queue_attributes(QueueUrl=urls[0], Attributes={"VisibilityTimeout": "7", "Policy": policy})
    described = sqs.get_queue_attributes(QueueUrl=urls[0], AttributeNames=["All"])["Attributes"]
    assert (described["VisibilityTimeout"], described["Policy"]) == ("7", policy)
    assert described["QueueArn"] == f"arn:aws:sqs:eu-west-1:{ACCOUNT}:list-0"
    assert sqs.create_queue(QueueName="list-0", Attributes={"VisibilityTimeout": "7"})["QueueUrl"] == urls[0]
    with pytest.raises(sqs.exceptions.QueueNameExists, match="different value for attribute VisibilityTimeout"):
        sqs.create_queue(QueueName="list-0", Attributes={"VisibilityTimeout": "8"})
    sqs.send_message(QueueUrl=urls[0], MessageBody="one")
    sqs.purge_queue(QueueUrl=urls[0])
    assert counted(sqs, urls[0]) == (0, 0, 0)
    sqs.send_message(QueueUrl=urls[0], MessageBody="of the queue that goes")
    sqs.delete_queue(QueueUrl=urls[0])
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.receive_message(QueueUrl=urls[0])
    again = sqs.create_queue(QueueName="list-0")["QueueUrl"]
    assert bodies(sqs, again) == []


def test_a_queue_is_its_accounts_alone_and_policies_are_asked(neighbours: Neighbours, queue: str) -> None:
    code, _ = error_of(neighbours.sqs(BOB).receive_message, QueueUrl=queue)
    assert code == "AWS.SimpleQueueService.NonExistentQueue"
    code, message = error_of(neighbours.sqs(DORA).send_message, QueueUrl=queue, MessageBody="m")
    assert code == "AccessDeniedException"
    assert f"sqs:SendMessage on resource: arn:aws:sqs:us-east-1:{ACCOUNT}:" in message


@pytest.mark.parametrize(
    ("operation", "members", "code", "text"),
    [
        ("create_queue", {"QueueName": "a b"}, "InvalidParameterValue", "Can only include alphanumeric characters"),
        ("create_queue", {"QueueName": "a.fifo"}, "AWS.SimpleQueueService.UnsupportedOperation", "FIFO queues"),
        (
            "create_queue",
            {"QueueName": "a", "Attributes": {"RedrivePolicy": "{}"}},
            "AWS.SimpleQueueService.UnsupportedOperation",
            "the attribute RedrivePolicy",
        ),
        (
            "create_queue",
            {"QueueName": "a", "Attributes": {"VisibilityTimeout": "43201"}},
            "InvalidAttributeValue",
            "Invalid value for the parameter VisibilityTimeout.",
        ),
        (
            "create_queue",
            {"QueueName": "a", "Attributes": {"Nonsense": "1"}},
            "InvalidParameterValue",
            "enum value set",
        ),
        ("create_queue", {"QueueName": "a", "Attributes": {"QueueArn": "1"}}, "InvalidAttributeName", "QueueArn"),
        ("get_queue_url", {"QueueName": "none"}, "AWS.SimpleQueueService.NonExistentQueue", "does not exist"),
        ("list_queues", {"MaxResults": 1001}, "InvalidParameterValue", "Must be between 1 and 1000"),
    ],
)
def test_what_is_wrong_with_a_queue_is_told_in_the_words_of_sqs(
    sqs: Any, operation: str, members: dict[str, Any], code: str, text: str
) -> None:
    told = error_of(getattr(sqs, operation), **members)
    assert told[0] == code
    assert text in told[1]


@pytest.mark.parametrize(
    ("operation", "members", "code", "text"),
    [
        ("send_message", {"MessageBody": "a\x00"}, "InvalidMessageContents", "Invalid binary character"),
        ("send_message", {"MessageBody": "m", "DelaySeconds": 901}, "InvalidParameterValue", "<= 900"),
        ("send_message", {"MessageBody": "m" * 1_048_577}, "InvalidParameterValue", "shorter than 1048576 bytes"),
        ("send_message", {"MessageBody": "m", "MessageGroupId": "g"}, "UnsupportedOperation", "FIFO"),
        (
            "send_message",
            {"MessageBody": "m", "MessageAttributes": {"a": {"DataType": "Odd", "StringValue": "1"}}},
            "InvalidParameterValue",
            "The type of message attribute 'a' is invalid",
        ),
        ("receive_message", {"MaxNumberOfMessages": 11}, "InvalidParameterValue", "Must be between 1 and 10"),
        ("receive_message", {"WaitTimeSeconds": 21}, "InvalidParameterValue", "Must be >= 0 and <= 20"),
        ("receive_message", {"VisibilityTimeout": -1}, "InvalidParameterValue", "Must be between 0 and 43200"),
        ("delete_message", {"ReceiptHandle": "x"}, "ReceiptHandleIsInvalid", '"x" is not a valid receipt handle'),
        ("get_queue_attributes", {"AttributeNames": ["Odd"]}, "InvalidParameterValue", "enum value set"),
        ("send_message_batch", {"Entries": []}, "EmptyBatchRequest", "at least one"),
        (
            "send_message_batch",
            {"Entries": [{"Id": "a", "MessageBody": "m"}] * 2},
            "BatchEntryIdsNotDistinct",
            "Id a repeated.",
        ),
        (
            "send_message_batch",
            {"Entries": [{"Id": str(number), "MessageBody": "m"} for number in range(11)]},
            "TooManyEntriesInBatchRequest",
            "You have sent 11.",
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_told_in_the_words_of_sqs(  # noqa: PLR0917 - what a case consists of
    sqs: Any, queue: str, operation: str, members: dict[str, Any], code: str, text: str
) -> None:
    told = error_of(getattr(sqs, operation), QueueUrl=queue, **members)
    assert told[0].endswith(code)
    assert text in told[1]


def test_the_command_line_of_aws_reads_a_queue(neighbours: Neighbours, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="by the command line")
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "awscli",
            "sqs",
            "receive-message",
            "--queue-url",
            queue,
            "--endpoint-url",
            neighbours.url,
        ],
        env={
            "AWS_ACCESS_KEY_ID": ALICE.access_key_id,
            "AWS_SECRET_ACCESS_KEY": ALICE.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout)["Messages"][0]["Body"] == "by the command line"
