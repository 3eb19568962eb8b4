"""Commands and Python code in forks of one process that has imported torch.

The tests of documentation and examples run dozens of commands, of which each would import torch for
two seconds. A command in a fork has the arguments, working folder, environment, output and exit
code of one that is started. Its runs start no worker processes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

TESTS = Path(__file__).resolve().parents[1]
MAX_REQUEST = 1 << 22
PRELOADED = (
    "obdbench.execution.run",
    "obdbench.evaluation.api",
    "obdbench.offline_rl.api",
    "obdbench.reporting.compare",
    "obdbench.reporting.site.html",
    "obdbench.reporting.rendering.terminal",
    "obdbench.validation.objective_contract",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
)
CLIENT = """#!{python} -IS
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
connection.shutdown(socket.SHUT_WR)
sys.exit(int(connection.recv(16) or 1))
"""


class CommandServer:
    """A running server, as its clients see it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def write_command(self, path: Path) -> None:
        """Write an executable file that behaves like ``obdbench``."""
        path.write_text(CLIENT.format(python=sys.executable, address=self.address))
        path.chmod(0o755)

    def run(
        self,
        *arguments: str,
        folder: Path,
        environment: dict[str, str],
        code: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, or ``code`` as ``python -c`` does; returns exit code and output."""
        request = {"arguments": arguments, "folder": str(folder), "environment": environment}
        request |= {} if code is None else {"code": code}
        with (
            socket.socket(socket.AF_UNIX) as connection,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            open(os.devnull) as null,
        ):
            connection.connect(self.address)
            descriptors = [null.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
            connection.shutdown(socket.SHUT_WR)
            status = int(connection.recv(16) or 1)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(arguments, status, *texts)

    def run_script(
        self, path: Path, *arguments: str, folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python file as ``python FILE ARGUMENTS`` does."""
        words = [str(path), *arguments]
        code = (
            f"import runpy, sys\nsys.argv = {words!r}\nsys.path[0] = {str(path.parent)!r}\n"
            f"runpy.run_path({str(path)!r}, run_name='__main__')\n"
        )
        return self.run(folder=folder, environment=dict(os.environ), code=code)


@contextmanager
def run_command_server() -> Iterator[CommandServer]:
    """Start a server, and end it with the block."""
    with tempfile.TemporaryDirectory(prefix="obd", dir="/tmp") as folder:
        address = f"{folder}/socket"
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "support.command_server", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield CommandServer(address)
        finally:
            process.kill()
            process.communicate()


def serve(address: str) -> NoReturn:
    """Fork for every request until the process is killed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        message, descriptors, _, _ = socket.recv_fds(connection, MAX_REQUEST, 3)
        while part := connection.recv(MAX_REQUEST):
            message += part
        child = os.fork()
        if child == 0:
            listener.close()
            _answer(connection, json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.close()
        os.waitpid(child, 0)


def _answer(connection: socket.socket, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Run a request in a fork, and send its exit code."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = ""
    sys.argv = ["obdbench", *request["arguments"]]
    status: object = 0
    try:
        if "code" in request:
            module = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(request["code"], "<string>", "exec"), module.__dict__)
        else:
            cli.main(request["arguments"])
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(status if isinstance(status, int) else int(bool(status))).encode())
    os._exit(0)


if __name__ == "__main__":
    from support.in_process import start_no_workers

    from obdbench.cli import main as cli

    for name in PRELOADED:
        import_module(name)
    start_no_workers()
    serve(sys.argv[1])
