"""What most gateways in Python do: an ASGI application that forwards with httpx."""

import os

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

client = httpx.AsyncClient(
    base_url=f"http://127.0.0.1:{os.environ['BEHIND']}",
    limits=httpx.Limits(max_connections=256, max_keepalive_connections=256),
)


async def forward(request: Request) -> Response:
    """Send the body on, and the answer back."""
    headers = {"content-type": request.headers.get("content-type", "")}
    answer = await client.post("/invocations", content=await request.body(), headers=headers)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


app = Starlette(routes=[Route("/{path:path}", forward, methods=["POST"])])
