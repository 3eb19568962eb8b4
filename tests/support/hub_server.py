"""A local server with the part of the Hugging Face Hub's interface that obdbench and Minari use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Repositories in memory; ``requests`` lists the method and path of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.lost: set[str] = set()  # files that are listed and cannot be downloaded
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        """The value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"


def sha1(content: bytes) -> str:
    """The hash that names a file's content."""
    return hashlib.sha1(content).hexdigest()


class HubHandler(BaseHTTPRequestHandler):
    """Answers requests of huggingface_hub for repositories of type dataset."""

    server: HubServer

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def answer(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def route(self) -> list[str]:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        return path.strip("/").split("/")

    def do_POST(self) -> None:
        parts = self.route()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.headers.get("Authorization"):
            self.answer({"error": "Invalid username or password."}, 401)
        elif parts == ["api", "repos", "create"]:
            request = json.loads(body)
            name = "/".join(filter(None, [request.get("organization"), request["name"]]))
            if request.get("private") or request.get("visibility") == "private":
                self.server.private.add(name)
            self.server.repositories.setdefault(name, {})
            self.answer({"url": f"{self.server.address}/datasets/{name}", "id": name})
        elif parts == ["api", "validate-yaml"]:
            self.answer({"errors": [], "warnings": []})
        elif parts[:2] == ["api", "datasets"] and parts[4] == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self.answer({"files": modes})
        elif parts[:2] == ["api", "datasets"] and parts[4] == "commit":
            name = "/".join(parts[2:4])
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    assert value["encoding"] == "base64"
                    self.server.repositories[name][value["path"]] = base64.b64decode(
                        value["content"]
                    )
            url = f"{self.server.address}/datasets/{name}/commit/{COMMIT}"
            self.answer({"commitUrl": url, "commitOid": COMMIT, "commitMessage": "message"})
        else:
            self.answer({"error": "Not found"}, 404)

    def do_GET(self) -> None:
        parts = self.route()
        if parts == ["api", "datasets"]:
            author = parse_qs(urlsplit(self.path).query).get("author", [""])[0]
            names = [n for n in self.server.repositories if n.startswith(f"{author}/")]
            self.answer([{"id": name, "sha": COMMIT, "tags": []} for name in names])
            return
        offset = 2 if parts[0] == "api" else 1
        name = "/".join(parts[offset : offset + 2])
        files = self.server.repositories.get(name)
        if files is None:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif parts[4:5] == ["tree"]:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": sha1(content)}
                for path, content in sorted(files.items())
            ]
            self.answer(entries)
        elif parts[0] == "api":
            siblings = [{"rfilename": path, "size": len(files[path])} for path in sorted(files)]
            self.answer({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []})
        else:
            path = "/".join(parts[5:])
            if path not in files or path in self.server.lost:
                self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            self.answer(files[path], X_Repo_Commit=COMMIT, ETag=f'"{sha1(files[path])}"')

    def do_HEAD(self) -> None:
        self.do_GET()


@contextmanager
def run_hub_server() -> Iterator[HubServer]:
    """A server that ends with the block."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
