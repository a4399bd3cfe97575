"""An S3 server as a program: moto in server mode. `python tests/support/s3_server.py PORT` listens on loopback.

What S3 promises and moto leaves to chance is made good here: a write that asks what is there is one step, and of two at
once to one key the second is told 409, which means to try again.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

App = Callable[..., Iterable[bytes]]
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>Another is being written.</Message></Error>"


def one_at_a_time(app: App) -> App:
    """Requests take turns once they have arrived whole, so that a caller who stops in the middle holds up nobody."""
    turn, guard = threading.Lock(), threading.Lock()
    written: set[str] = set()

    def taking_turns(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = None if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        if "HTTP_IF_NONE_MATCH" not in environ:
            with turn:
                return app(environ, start_response)
        key = environ["PATH_INFO"]
        with guard:
            if key in written:
                start_response("409 Conflict", [("Content-Type", "application/xml")])
                return [CONFLICT]
            written.add(key)
        try:
            with turn:
                return app(environ, start_response)
        finally:
            written.discard(key)

    return taking_turns


if __name__ == "__main__":
    run_simple(
        "127.0.0.1",
        int(sys.argv[1]),
        one_at_a_time(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
