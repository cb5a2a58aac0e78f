"""A worker that answers HTTP as a file says, in the place of a server that a test cannot have.

    stand_in.py PAGES --port PORT [anything else]

PAGES is JSON, `{"/path": [status, "body"]}`, read anew for each request; every other path is 404. Each
request adds its path as a line to PAGES.asked.
"""

import http.server
import json
import sys
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from the file."""

    pages: Path

    def do_GET(self) -> None:
        """Answer one request."""
        with self.pages.with_suffix(".asked").open("a", encoding="utf-8") as asked:
            asked.write(f"{self.path}\n")
        status, body = json.loads(self.pages.read_text(encoding="utf-8")).get(self.path, (404, ""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""
        del format, args


def main(words: list[str]) -> None:
    """Serve for ever."""
    Handler.pages = Path(words[0])
    port = int(words[words.index("--port" if "--port" in words else "--http-port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
