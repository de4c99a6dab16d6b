"""A constant load of invocations, which counts what its clients see."""

import json
import threading
from typing import Self

from botocore.exceptions import ClientError, HTTPClientError
from tests.support.fixtures import Deployment
from tests.support.product import Moorage, wait_until


class Load:
    """A constant load of invocations by several clients that count what they see."""

    def __init__(
        self, deployment: Deployment, body: str, expected: object, *, endpoint: str = "e", clients: int = 4
    ) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._stop = threading.Event()
        self._endpoint = endpoint
        self._body = body
        self._expected = expected
        self._threads = [threading.Thread(target=self._run, args=(deployment.moorage,)) for _ in range(clients)]

    def _run(self, moorage: Moorage) -> None:
        client = moorage.client("sagemaker-runtime", retries={"total_max_attempts": 1}, read_timeout=20)
        while not self._stop.is_set():
            try:
                answer = client.invoke_endpoint(EndpointName=self._endpoint, Body=self._body, ContentType="text/csv")
                if json.loads(answer["Body"].read()) != self._expected:
                    self.failures.append("a wrong answer")
                self.answers += 1
            except (ClientError, HTTPClientError) as fault:
                self.failures.append(str(fault))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.await_more(50)
        return self

    def await_more(self, answers: int) -> None:
        """Wait until so many more invocations have been answered."""
        wanted = self.answers + answers
        wait_until(lambda: self.answers >= wanted, within=30, what=f"{answers} more answers")

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
