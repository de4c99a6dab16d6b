"""Bearer tokens as the SageMaker SDK v3 makes them: botocore signs, nothing of ours does."""

import base64

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from moorage.aws.credentials import Credential

HOST = "sagemaker.amazonaws.com"
PREFIX = "sagemaker-api-key-"


def make_token(
    credential: Credential,
    session_token: str | None = None,
    *,
    region: str = "us-east-1",
    expires: int = 43_200,
    service: str = "sagemaker",
    action: str = "CallWithBearerToken",
    host: str = HOST,
) -> str:
    """Make a token as ``sagemaker.core.token_generator`` does, unless something else is asked for."""
    request = AWSRequest(method="POST", url=f"https://{host}/", headers={"host": host}, params={"Action": action})
    keys = Credentials(credential.access_key_id, credential.secret_access_key, session_token)
    SigV4QueryAuth(keys, service, region, expires=expires).add_auth(request)
    return encode(request.url.replace("https://", "") + "&Version=1")


def encode(url: str) -> str:
    """Make a token of a URL without its scheme."""
    return PREFIX + base64.b64encode(url.encode()).decode()


def decode(token: str) -> str:
    """Give the URL of a token."""
    return base64.b64decode(token.removeprefix(PREFIX)).decode()
