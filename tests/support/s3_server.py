"""An S3 server as a program: moto in server mode. `python tests/support/s3_server.py PORT` listens on loopback.

What S3 promises and moto leaves to chance is made good here: a write that asks what is there is one step.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple


def one_at_a_time(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Requests take turns once they have arrived whole, so that a caller who stops in the middle holds up nobody."""
    turn = threading.Lock()

    def taking_turns(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = None if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with turn:
            return app(environ, start_response)

    return taking_turns


if __name__ == "__main__":
    run_simple(
        "127.0.0.1",
        int(sys.argv[1]),
        one_at_a_time(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
