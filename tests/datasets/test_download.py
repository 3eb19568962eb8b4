"""Fetching against a server that misbehaves in every way a server can."""

from __future__ import annotations

import errno
import hashlib
import http.server
import multiprocessing
import socket
import threading
import time

import pytest

from obdbench.datasets import download as fetching
from obdbench.datasets.download import cache_root, fetch, sha256_of
from obdbench.errors import FetchError

CONTENT = bytes(range(256)) * 2000
SUM = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 1_000_000


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path says how to behave."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.log.append((self.path, self.headers.get("Range")))
        behavior = self.path.strip("/").split("/")[0]
        getattr(self, f"be_{behavior}")()

    def send(self, body, code=200, kind="application/octet-stream", length=None, **headers):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def be_good(self):
        self.send(CONTENT, ETag='"one"')

    def be_wordy(self):
        self.send(CONTENT[:10], length="12abc")

    def be_negative(self):
        self.send(CONTENT[:10], length="-5")

    def be_boundless(self):
        self.send(CONTENT[:10], length="9" * 5000)

    def be_slow(self):
        time.sleep(0.4)
        self.send(CONTENT)

    def be_breaks(self):
        """Stop after 100,000 bytes, and continue at the requested byte."""
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if start and self.headers.get("If-Range") == '"one"':
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            rest = CONTENT[start:]
            self.send(rest[:200_000], 206, length=len(rest), ETag='"one"', Content_Range=span)
        else:
            self.send(CONTENT[:100_000], length=len(CONTENT), ETag='"one"')

    def be_norange(self):
        """Break off once; ignore the wish to continue."""
        if len(self.server.log) == 1:
            self.send(CONTENT[:100_000], length=len(CONTENT), ETag='"one"')
        else:
            self.send(CONTENT, ETag='"two"')

    def be_misplaced(self):
        """Break off once; continue at the wrong place; then behave."""
        if len(self.server.log) == 1:
            self.send(CONTENT[:100_000], length=len(CONTENT), ETag='"one"')
        elif self.headers.get("Range"):
            self.send(CONTENT[:50], 206, ETag='"one"', Content_Range="bytes 0-49/512000")
        else:
            self.send(CONTENT)

    def be_never(self):
        self.send(CONTENT[:10], length=len(CONTENT))

    def be_changed(self):
        self.send(CONTENT[:-1] + b"!")

    def be_html(self):
        self.send(b"<!DOCTYPE html><p>Please sign in</p>", kind="text/html; charset=utf-8")

    def be_tofile(self):
        self.send(b"", 302, Location="file:///etc/hostname")

    def be_toftp(self):
        self.send(b"", 302, Location="ftp://127.0.0.1/x")

    def be_togood(self):
        self.send(b"", 302, Location="/good/real.bin")

    def be_tonowhere(self):
        self.send(b"", 302, Location="http://[x/y")

    def be_loop(self):
        self.send(b"", 302, Location=self.path)

    def be_missing(self):
        self.send(b"no", 404)

    def be_busy(self):
        if len(self.server.log) < 3:
            self.send(b"busy", 503)
        else:
            self.send(CONTENT)

    def be_huge(self):
        self.send(b"x", length=10**12)

    def be_endless(self):
        self.send(b"x" * (LIMIT + 10), length="none")

    def be_lengthless(self):
        self.send(CONTENT[:100_000], length="none")

    def be_chunked(self, ending=b"0\r\n\r\n"):
        piece = b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT)
        self.send(piece + ending, length="none", Transfer_Encoding="chunked")

    def be_unfinished(self):
        self.be_chunked(ending=b"")

    def be_garbage(self):
        self.wfile.write(b"\x00\x01\x02 not http at all\r\n\r\n")
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.log = []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("OBDBENCH_MIRROR", "OBDBENCH_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(fetching, "TIMEOUT", 5.0)


def leftovers() -> list[str]:
    """Everything in the cache that looks like a file a reader might take for whole."""
    root = cache_root()
    hidden = (".lock", ".part", ".tag")
    return [p.name for p in root.rglob("*") if p.is_file() and p.suffix not in hidden]


def test_fetch_downloads_once(server):
    path = fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert path.read_bytes() == CONTENT
    assert fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT) == path
    assert len(server.log) == 1
    assert path.is_relative_to(cache_root())


def test_a_cached_file_needs_no_lock(server, monkeypatch):
    path = fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)

    def read_only(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fetching, "lock", read_only)
    assert fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT) == path


def test_damaged_cache_is_fetched_again(server):
    path = fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)
    path.write_bytes(b"damaged")
    assert fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT).read_bytes() == CONTENT


def test_damaged_cache_is_named_when_offline(server, monkeypatch):
    path = fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)
    path.write_bytes(b"damaged")
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)


@pytest.mark.reliability(
    "input",
    "Broken downloads",
    injection="connections that break, ranges that are ignored or misplaced, no stated length",
    outcome="the whole file with its checksum",
)
@pytest.mark.parametrize("behavior", ["breaks", "norange", "misplaced", "chunked"])
def test_broken_download_ends_whole(server, behavior):
    path = fetch(f"{server.url}/{behavior}/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert path.read_bytes() == CONTENT
    assert leftovers() == ["a.bin"]


def test_a_full_disk_is_not_a_network_error(server, monkeypatch):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "tqdm", no_space)
    with pytest.raises(FetchError, match="cannot be written: No space left"):
        fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert len(server.log) == 1


def test_broken_download_is_continued_not_repeated(server):
    fetch(f"{server.url}/breaks/a.bin", sha256=SUM, max_bytes=LIMIT)
    starts = [None, "bytes=100000-", "bytes=300000-", "bytes=500000-"]
    assert [span for _, span in server.log] == starts


def test_part_of_another_version_is_not_continued(server):
    target = cache_root() / "fetched" / "127.0.0.1" / "breaks" / "a.bin"
    target.parent.mkdir(parents=True)
    target.with_name("a.bin.part").write_bytes(b"?" * 1000)
    target.with_name("a.bin.part.tag").write_text('"old"')
    assert fetch(f"{server.url}/breaks/a.bin", sha256=SUM, max_bytes=LIMIT).read_bytes() == CONTENT


@pytest.mark.reliability(
    "input",
    "Bad servers",
    injection="HTTP servers that send truncated, wrong, redirected or endless answers",
    outcome="one `ObdError`; the cache stays empty",
)
@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        ("never", "after 10 of 512,000 bytes"),
        ("changed", "SHA-256"),
        ("html", "web page"),
        ("tofile", "redirects to file:"),
        ("toftp", "redirects to ftp:"),
        ("tonowhere", "could not be fetched"),
        ("loop", "redirects to /loop"),
        ("missing", "404"),
        ("huge", "larger than"),
        ("wordy", "SHA-256"),
        ("negative", "SHA-256"),
        ("boundless", "SHA-256"),
        ("lengthless", "SHA-256"),
        ("unfinished", "could not be fetched"),
        ("endless", "larger than"),
        ("garbage", "could not be fetched"),
    ],
)
def test_bad_servers_end_in_one_error_and_an_empty_cache(server, behavior, message):
    with pytest.raises(FetchError, match=message) as caught:
        fetch(f"{server.url}/{behavior}/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert "\n" not in str(caught.value)
    assert leftovers() == []


def test_redirect_to_http_is_followed(server):
    path = fetch(f"{server.url}/togood/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert path.read_bytes() == CONTENT


def test_busy_server_is_asked_again(server):
    assert fetch(f"{server.url}/busy/a.bin", sha256=SUM, max_bytes=LIMIT).exists()
    assert len(server.log) == 3


def test_an_address_without_a_server_is_one_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match="OBDBENCH_MIRROR"):
        fetch(f"http://127.0.0.1:{port}/a.bin", sha256=SUM, max_bytes=LIMIT)


def test_offline_makes_no_request(server, monkeypatch):
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    with pytest.raises(FetchError, match="OBDBENCH_OFFLINE"):
        fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert server.log == []


def test_mirror_comes_before_the_network(server, tmp_path, monkeypatch):
    copy = tmp_path / "mirror" / "127.0.0.1" / "good" / "a.bin"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    monkeypatch.setenv("OBDBENCH_MIRROR", str(tmp_path / "mirror"))
    assert fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT) == copy
    copy.write_bytes(b"changed")
    with pytest.raises(FetchError, match="mirror's copy"):
        fetch(f"{server.url}/good/a.bin", sha256=SUM, max_bytes=LIMIT)
    assert server.log == []


def test_mirror_comes_before_a_damaged_cache(server, tmp_path, monkeypatch):
    url = f"{server.url}/good/a.bin"
    fetch(url, sha256=SUM, max_bytes=LIMIT).write_bytes(b"damaged")
    copy = tmp_path / "mirror" / "127.0.0.1" / "good" / "a.bin"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    monkeypatch.setenv("OBDBENCH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    assert fetch(url, sha256=SUM, max_bytes=LIMIT) == copy


def _fetch_into(queue, url: str) -> None:
    queue.put(sha256_of(fetch(url, sha256=SUM, max_bytes=LIMIT)))


def test_two_processes_download_once(server):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    url = f"{server.url}/slow/a.bin"
    workers = [context.Process(target=_fetch_into, args=(queue, url)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=20) for _ in workers] == [SUM] * 3
    for worker in workers:
        worker.join()
    assert len(server.log) == 1
