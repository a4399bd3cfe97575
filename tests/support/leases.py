"""A small API server of Kubernetes that holds one Lease, for what asks for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from attune.platform.lease import LeaseSettings


class ApiServer(BaseHTTPRequestHandler):
    """One Lease, as the API server keeps it: a replacement of another version is a conflict."""

    lease: dict[str, Any]

    def do_GET(self) -> None:
        self._answer(200, self.lease)

    def do_PUT(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            self._answer(409, {"kind": "Status", "reason": "Conflict"})
            return
        asked["metadata"]["resourceVersion"] = str(int(asked["metadata"]["resourceVersion"]) + 1)
        type(self).lease = asked
        self._answer(200, asked)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        assert self.path == "/apis/coordination.k8s.io/v1/namespaces/ml/leases/attune-trainer"
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def api_server(folder: Path) -> Iterator[LeaseSettings]:
    """An API server with an empty Lease, and the settings that lead to it."""
    ApiServer.lease = {"metadata": {"name": "attune-trainer", "namespace": "ml", "resourceVersion": "1"}}
    server = ThreadingHTTPServer(("127.0.0.1", 0), ApiServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    file = folder / "kubeconfig"
    users = [{"name": "u", "user": {}}]
    file.write_text(
        yaml.safe_dump({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"})
    )
    try:
        yield LeaseSettings(name="attune-trainer", namespace="ml", kubeconfig=str(file))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
