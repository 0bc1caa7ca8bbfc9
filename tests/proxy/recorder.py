"""An upstream on a thread that believes nothing: it takes requests apart strictly (RFC 9112) and records each."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from dataclasses import dataclass

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/1\.1" % _TOKEN)
_VALUE = rb"(?:[\x21-\x7e\x80-\xff](?:[ \t\x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
_HEADER = re.compile(rb"(%b):[ \t]*(%b)[ \t]*" % (_TOKEN, _VALUE))
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH = re.compile(rb"[0-9]{1,15}")


@dataclass(frozen=True)
class Recorded:
    """Header names are in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class Malformed(Exception):
    pass


class Recorder:
    """Answers ``ok``, or what `answers` says for a target (then it closes). ``problems`` are what was malformed."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.problems: list[str] = []
        self.answers: dict[bytes, bytes] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream, contextlib.suppress(OSError, EOFError):
            try:
                while True:
                    line = _line(stream)
                    self.requests.append(request := _request(line, stream))
                    if (answer := self.answers.get(request.target)) is not None:
                        # With its end in one packet: a call that came between the two would be lost, and rightly so.
                        client.sendall(answer, socket.MSG_MORE)
                        return
                    client.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + b"ok" * (request.method != b"HEAD")
                    )
            except Malformed as problem:
                self.problems.append(str(problem))


def _line(stream) -> bytes:
    line = stream.readline()
    if not line:
        raise EOFError
    if not line.endswith(b"\r\n"):
        raise Malformed(f"a line ends otherwise: {line!r}")
    return line[:-2]


def _request(line: bytes, stream) -> Recorded:
    found = _LINE.fullmatch(line)
    if found is None:
        raise Malformed(f"request line {line!r}")
    headers = []
    while line := _line(stream):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise Malformed(f"header {line!r}")
        headers.append((header[1].lower(), header[2]))
    request = Recorded(found[1], found[2], tuple(headers), b"")
    if len(request.values(b"host")) != 1:
        raise Malformed(f"hosts {request.values(b'host')}")
    return Recorded(found[1], found[2], tuple(headers), _body(request, stream))


def _body(request: Recorded, stream) -> bytes:
    lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
        raise Malformed(f"framed by {lengths} and {codings}")
    if lengths:
        if _LENGTH.fullmatch(lengths[0]) is None:
            raise Malformed(f"length {lengths}")
        return _exactly(stream, int(lengths[0]))
    body = b""
    while codings:
        size = _line(stream)
        if _SIZE.fullmatch(size) is None:
            raise Malformed(f"chunk size {size!r}")
        body += _exactly(stream, int(size, 16))
        if _line(stream):
            raise Malformed("a chunk's end, or trailers")
        if int(size, 16) == 0:
            break
    return body


def _exactly(stream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
