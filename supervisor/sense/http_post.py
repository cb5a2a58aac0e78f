"""One HTTP POST of a JSON document."""

from supervisor.sense.http_get import Answer, Asked, exchange


async def post_json(url: str, document: bytes, answer_bytes: int) -> Answer:
    """Post `document` to `url`, reading `answer_bytes` of the answer at most; raises what `get` does."""
    headers = ("Content-Type: application/json", f"Content-Length: {len(document)}")
    return await exchange(url, Asked("POST", headers, document), answer_bytes)
