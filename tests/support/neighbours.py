"""The neighbours process alone: a small fake control plane gives it keys, and it listens at a TCP port for boto3."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from moorage.aws.credentials import Credential
from moorage.routing.snapshot import Snapshot

ALICE = Credential("AKIAALICE0000000000A", "alice-secret", "111111111111", "alice")
BOB = Credential("AKIABOB000000000000B", "bob-secret", "222222222222", "bob")
CAROL = Credential(
    "AKIACAROL0000000000C",
    "carol-secret",
    "111111111111",
    "carol",
    (
        json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                        "Resource": "arn:aws:s3:::shared/${aws:username}/*",
                    },
                    {
                        "Effect": "Allow",
                        "Action": "s3:ListBucket",
                        "Resource": "arn:aws:s3:::shared",
                        "Condition": {"StringLike": {"s3:prefix": "${aws:username}/*"}},
                    },
                    {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/reader"},
                    {
                        "Effect": "Allow",
                        "Action": ["logs:GetLogEvents", "logs:FilterLogEvents"],
                        "Resource": "arn:aws:logs:*:*:log-group:/aws/sagemaker/Endpoints/wine:*",
                    },
                ],
            }
        ),
    ),
)
"""Of Alice's account; may use her own folder of the bucket ``shared``, assume one role, and read one log group."""

DORA = Credential(
    "AKIADORA0000000000D",
    "dora-secret",
    "111111111111",
    "dora",
    (
        json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": ["kms:Encrypt", "kms:Decrypt"],
                        "Resource": "arn:aws:kms:*:111111111111:key/*",
                        "Condition": {
                            "StringEquals": {"kms:EncryptionContext:team": "red", "aws:ResourceTag/team": "one"}
                        },
                    },
                    {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
                ],
            }
        ),
    ),
)
"""Of Alice's account; may do everything in S3, and with keys of one tag what has one encryption context."""

_CHILD = """
import socket, sys
from pathlib import Path
from moorage.base.process import run_process
from moorage.base.settings import Settings
from moorage.neighbours.process import serve

settings = Settings(data_dir=Path(sys.argv[1]), run_dir=Path(sys.argv[2]))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
run_process("neighbours", lambda stop: serve(settings, listener, stop))
"""


class FakeControl:
    """Listens where the control plane does and tells who calls one snapshot."""

    def __init__(self, path: Path, *keys: Credential) -> None:
        self.applied = threading.Event()
        self.hello: dict[str, Any] = {}
        by_id = {key.access_key_id: key for key in keys}
        self._snapshot = Snapshot(version=1, keys=by_id, token_secret="secret of the tests")
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
            self.hello = json.loads(stream.readline())
            message = {"op": "snapshot", "snapshot": self._snapshot.to_message()}
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()
            for line in stream:
                if json.loads(line) == {"op": "applied", "version": 1}:
                    self.applied.set()

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):  # closed before
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Neighbours:
    """A running neighbours process."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.run_dir = folder / "run"
        for one in (self.data_dir, self.run_dir):
            one.mkdir(mode=0o700, exist_ok=True)
        self.control = FakeControl(self.run_dir / "snapshots.sock", ALICE, BOB, CAROL, DORA)
        self.start()

    def start(self) -> None:
        """Start it and wait until it has the keys."""
        self.control.applied.clear()
        self.start_unheard()
        assert self.control.applied.wait(15), "the process did not take the snapshot"

    def start_unheard(self) -> None:
        """Start it without waiting for keys."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(self.data_dir), str(self.run_dir)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def s3(self, key: Credential = ALICE, *, region: str = "us-east-1", **options: Any) -> Any:
        """Make an S3 client as a user does."""
        return self._client("s3", key, region, options)

    def sts(self, key: Credential = ALICE, **options: Any) -> Any:
        """Make an STS client as a user does."""
        return self._client("sts", key, "us-east-1", options)

    def logs(self, key: Credential = ALICE, *, region: str = "us-east-1", **options: Any) -> Any:
        """Make a client of CloudWatch Logs as a user does."""
        return self._client("logs", key, region, options)

    def _client(self, service: str, key: Credential, region: str, options: dict[str, Any]) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret_access_key,
            config=Config(**{"retries": {"total_max_attempts": 1}, **options}),
        )

    def kms(self, key: Credential = ALICE, *, region: str = "us-east-1", **options: Any) -> Any:
        """Make a KMS client as a user does."""
        return self._client("kms", key, region, options)

    def sqs(self, key: Credential = ALICE, *, region: str = "us-east-1", **options: Any) -> Any:
        """Make an SQS client as a user does."""
        return self._client("sqs", key, region, options)

    def kill(self) -> None:
        """End it without warning."""
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """Tell it to stop; gives its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)

    def close(self) -> None:
        """End whatever runs."""
        self.kill()
        self.control.close()

    def resident_bytes(self, what: str = "VmRSS") -> int:
        """Give the memory of the process, or its high-water mark (VmHWM)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        values: Mapping[str, str] = dict(line.split(":", 1) for line in lines)
        return int(values[what].split()[0]) * 1024


@contextlib.contextmanager
def neighbours_in(folder: Path) -> Iterator[Neighbours]:
    """Run the neighbours process on a folder."""
    neighbours = Neighbours(folder)
    try:
        yield neighbours
    finally:
        neighbours.close()
