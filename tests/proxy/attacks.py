"""What an attacker sends, and what an upstream may say: bytes, and what must become of them."""

from __future__ import annotations

KEY = "alk_raw_0123456789abcdef0123456789abcdef"


def r(
    *lines: bytes,
    method: bytes = b"POST",
    target: bytes = b"/up/x",
    version: bytes = b"HTTP/1.1",
    host: bytes = b"Host: localhost",
    agent: bytes = b"X-Agent-Id: worker",
    body: bytes = b"",
) -> bytes:
    """A request; an empty ``host`` or ``agent`` is left out."""
    head = [b" ".join((method, target, version)), *filter(None, (host, agent)), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(*lines: bytes, **more: bytes) -> bytes:
    return r(*lines, **{"method": b"GET", **more})


def framed(header: bytes) -> bytes:
    """A body of five bytes, framed so."""
    return r(header, body=b"hello")


def chunks(body: bytes) -> bytes:
    return r(b"Transfer-Encoding: chunked", body=body)


def coded(header: bytes) -> bytes:
    return r(header, body=b"5\r\nhello\r\n0\r\n\r\n")


def at(target: bytes) -> bytes:
    return get(target=target)


NEXT = at(b"/up/next")

LENGTHS = [
    b"Content-Length: 0x5",
    b"Content-Length: 5e0",
    b"Content-Length: 5.0",
    b"Content-Length:",
    b"Content-Length: 5 5",
    b"Content-Length: 5;a",
    b"Content-Length: 5,",
    b"Content-Length: 5, 5",
    b'Content-Length: "5"',
    b"Content-Length: -0",
    b"Content-Length: \xa05",
    b"Content-Length: \xd9\xa5",
    b"Content-Length: \x0b5",
    b"Content-Length: 5\x0c",
    b"Content-Length: " + b"0" * 400 + b"5",
    b"Content-Length: 9223372036854775807",
    b"Content-Length: 9223372036854775808",
    b"Content-Length: 18446744073709551621",
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b"Content-Length\0: 5",
    b" Content-Length: 5",
    b"Content-Length:\r\n 5",
    b"Content-Length: 5\nX: y",
    b"Content-Length: 5\rX: y",
    b"Content-Length: 5\r\ncontent-length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
]
CODINGS = [
    b"Transfer-Encoding: \x0bchunked",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: deflate",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: chunked\0",
    b"Transfer-Encoding: chunked\xa0",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: chunked\r\n , identity",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\nX: y",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    b"Content-Length: 15\r\nTransfer-Encoding: cow",
]
CHUNKS = [
    b'5;a="\r\n0\r\n\r\n"\r\nhello\r\n0\r\n\r\n',
    b"5;a\x01\r\nhello\r\n0\r\n\r\n",
    b"5;a\0\r\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5 ;a\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5\t\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b"g\r\nhello\r\n0\r\n\r\n",
    b";a\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"5\r\nhello\r\r\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhelloGET /up/evil HTTP/1.1\r\nHost: a\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX T: 1\r\n\r\n",
    b"5\r\nhello\r\n0\r\nXT\r\n\r\n",
    b"5\r\nhello\r\n0\r\nXT: a\n\r\n",
    b"5\r\nhello\r\n0\r\nXT: a\r\n b\r\n\r\n",
    b"5\r\nhello\r\n0\r\nXT: a\0\r\n\r\n",
]
HEADERS = [
    b": x",
    b"X Y: x",
    b"X(Y): x",
    b"X@Y: x",
    b'"X": x',
    b"[X]: x",
    b":method: GET",
    b"X-\xc3\xa9: x",
    b"X\0: x",
    b"X\x0b: x",
    b"XY",
    b"X: a\x01b",
    b"X: a\x7fb",
    b"X: a\x0cb",
    b"X: a\r\r\nY: b",
    b"X: a\nY: b",
    b" ",
    b"\t",
    b"X: a\r\n \r\nY: b",
    b"X-Ledger-Key: alk_\0",
    b"Expect: 100-continue\r\nExpect: 100-continue",
    b"Content-Type: a/b\r\nContent-Type: c/d",
    b"Idempotency-Key: a\r\nIdempotency-Key: b",
]
TARGETS = [
    b"*",
    b"*?a",
    b"?",
    b"localhost:80",
    b"up://x",
    b"http://localhost/up/x",
    b"HTTP://localhost/up/x",
    b"https://localhost/api/agents",
    b"//up/x",
    b"/up//x",
    b"/up/.",
    b"/up/..;/x",
    b"/up/..%3b/x",
    b"/up/..%20/x",
    b"/up/..%23/x",
    b"/up/..%3f/x",
    b"/up/%2e/x",
    b"/up/%2f..%2f..%2fapi/agents",
    b"/up/%5c..%5capi",
    b"/./up/x",
    b"/..",
    b"/ui/../up/x",
    b"/healthz/../up/x",
    b"/up/%c0%ae%c0%ae/x",
    b"/up/%C1%9C..%C1%9Cx",
    b"/up/%e0%80%af/x",
    b"/up/%f0%80%80%af",
    b"/up\\x",
    b"/up/\xc3\xa9",
    b"/up/\0",
    b"/up/\tx",
    b"/up/a b",
    b"/up/a%",
    b"/up/%u0041",
    b"/%75p/x",
    b"/up/x#y",
    b"/up/x?a#b",
    b"/up/x?a b",
    b"/up/x?\xff",
    b"/up/x?a\x01",
    b"/up/x?a\x7f",
    b"/ui/static/..%2f..%2fapp.py",
]
STARTS = {
    "a method in lower case": get(method=b"get"),
    "an unknown method": get(method=b"FOO"),
    "a method with a quote": get(method=b"M'X"),
    "a method with a NUL": get(method=b"GE\0T"),
    "a method of 5 KB": get(method=b"A" * 5000),
    "a space before the method": get(method=b" GET"),
    "no method": get(method=b""),
    "HTTP/1.2": get(version=b"HTTP/1.2"),
    "HTTP/1.10": get(version=b"HTTP/1.10"),
    "HTTP/01.1": get(version=b"HTTP/01.1"),
    "HTTP/1": get(version=b"HTTP/1"),
    "http/1.1": get(version=b"http/1.1"),
    "a space behind the version": get(version=b"HTTP/1.1 "),
    "a tab behind the version": get(version=b"HTTP/1.1\t"),
    "tabs between": b"GET\t/up/x\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte order mark": b"\xef\xbb\xbf" + get(),
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + b"x" * 100,
    "an SSH hello": b"SSH-2.0-x\r\n",
    "a PROXY line": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + get(),
    "NULs": b"\0" * 10,
    "JSON": b'{"a":1}\r\n\r\n',
    **{
        f"the host {host!r}": get(host=b"Host: " + host)
        for host in (b"a@b", b"a:b", b"a,b", b"a?b", b"a#", b"a%41", b"a\0", b"[::1", b"\xc3\xa9", b"")
    },
    "HTTP/1.0 with chunks": r(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n"),
}
OTHERS = {
    "HTTP/0.9, complete": (505, b"GET /up/x\r\n"),
    "HTTP/0.9, with headers": (505, b"GET /up/x\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, get(version=b"HTTP/2.0")),
    "TRACE": (405, get(method=b"TRACE")),
    "CONNECT to an upstream": (405, r(method=b"CONNECT", target=b"up:443")),
    "an upgrade that Connection does not name": (501, get(b"Upgrade: h2c")),
    "an empty Upgrade": (501, get(b"Upgrade:")),
    "an empty Expect": (417, r(b"Expect:", b"Content-Length: 5", body=b"hello")),
    "two expectations": (417, r(b"Expect: 100-continue, x", b"Content-Length: 5", body=b"hello")),
    "a target of 17 KB": (414, at(b"/up/x?" + b"a" * 17_000)),
    "3,900 short headers": (431, get(*[b"a:"] * 3_900)),
    "20,000 trailers": (431, chunks(b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n")),
}
BAD = {
    **{f"01-05 {header[:60]!r}": framed(header) for header in LENGTHS},
    **{f"01-05 {header[:60]!r}": coded(header) for header in CODINGS},
    **{f"06-07 {body[:60]!r}": chunks(body) for body in CHUNKS},
    **{f"08-15 {line!r}": get(line) for line in HEADERS},
    **{f"10-13 {target!r}": at(target) for target in TARGETS},
    **{f"09-13 {name}": data for name, data in STARTS.items()},
}

# What is sent, and what of it must reach the upstream: target, headers beside Host, body.
H5 = ((b"content-length", b"5"),)
TE = ((b"transfer-encoding", b"chunked"),)
Reached = tuple[bytes, tuple[tuple[bytes, bytes], ...], bytes]
FORWARDED: dict[str, tuple[bytes, Reached]] = {
    "white space around a length": (framed(b"Content-Length: \t5 \t"), (b"/x", H5, b"hello")),
    "zeros before a length": (framed(b"Content-Length: 0005"), (b"/x", H5, b"hello")),
    "a length in odd case": (framed(b"cOnTeNt-LeNgTh:5"), (b"/x", H5, b"hello")),
    "a length and one with an underscore": (framed(b"Content_Length: 9\r\nContent-Length: 5"), (b"/x", H5, b"hello")),
    "a length, a coding with an underscore": (
        framed(b"Transfer_Encoding: chunked\r\nContent-Length: 5"),
        (b"/x", H5, b"hello"),
    ),
    "a coding in upper case": (coded(b"Transfer-Encoding:\tCHUNKED"), (b"/x", TE, b"hello")),
    "codings that TE accepts": (coded(b"TE: trailers, chunked\r\nTransfer-Encoding: chunked"), (b"/x", TE, b"hello")),
    "extensions": (chunks(b'5;a=b\r\nhello\r\n0;c="d\\"e"\r\n\r\n'), (b"/x", TE, b"hello")),
    "zeros before a size": (chunks(b"0" * 100 + b"5\r\nhello\r\n000\r\n\r\n"), (b"/x", TE, b"hello")),
    "chunks of one byte": (chunks(b"1\r\nx\r\n" * 3_000 + b"0\r\n\r\n"), (b"/x", TE, b"x" * 3_000)),
    "trailers": (
        chunks(b"5\r\nhello\r\n0\r\nHost: evil\r\nX-Agent-Id: boss\r\nExpect: x\r\n\r\n"),
        (b"/x", TE, b"hello"),
    ),
    "a GET with a body": (get(b"Content-Length: 5", body=b"hello"), (b"/x", H5, b"hello")),
    "a POST without one": (r(), (b"/x", (), b"")),
    "bytes beyond ASCII in a value": (get(b"X: \x80\x85\xff"), (b"/x", ((b"x", b"\x80\x85\xff"),), b"")),
    "white space behind a value": (get(b"X: a\tb \t"), (b"/x", ((b"x", b"a\tb"),), b"")),
    "a value of white space": (get(b"X:  \t"), (b"/x", ((b"x", b""),), b"")),
    "any token as a name": (get(b"X!#$%&'*+.^`|~: y"), (b"/x", ((b"x!#$%&'*+.^`|~", b"y"),), b"")),
    "two cookies, and the dashboard's": (
        get(b"Cookie: a=1; agent_ledger_session=s", b"Cookie: b=2"),
        (b"/x", ((b"cookie", b"a=1"), (b"cookie", b"b=2")), b""),
    ),
    "empty lines before it": (b"\r\n\r\n" + get(), (b"/x", (), b"")),
    "HTTP/1.0": (get(version=b"HTTP/1.0"), (b"/x", (), b"")),
    "Connection names our headers": (get(b"Connection: x-agent-id, host"), (b"/x", (), b"")),
    "Connection names a length": (
        r(b"Connection: content-length, X-A", b"X-A: 1", b"Content-Length: 5", body=b"hello"),
        (b"/x", H5, b"hello"),
    ),
    "Connection names a coding": (
        coded(b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked"),
        (b"/x", TE, b"hello"),
    ),
    "two Connections": (
        get(b"Connection: x-a ,,\tx-b", b"Connection: x-c", b"X-A: 1", b"X-B: 2", b"x-c: 3"),
        (b"/x", (), b""),
    ),
    "Connection names what the policy sets": (
        get(b"Connection: authorization", b"AUTHORIZATION:\tmine", target=b"/sealed/x"),
        (b"/base/x", ((b"authorization", b"Bearer upstreams-own"),), b""),
    ),
    "hop-by-hop headers": (
        get(
            b"Keep-Alive: 5",
            b"Proxy-Connection: a",
            b"Proxy-Authorization: b",
            b"TE: trailers",
            b"Trailer: X",
            b"HTTP2-Settings: A",
        ),
        (b"/x", (), b""),
    ),
    "a key that Connection names": (
        get(b"Connection: x-ledger-key", b"X-Ledger-Key:  " + KEY.encode() + b" ", agent=b""),
        (b"/x", (), b""),
    ),
    "a key in the query": (
        get(target=b"/up/x?a=1&key=%61" + KEY[1:].encode() + b"&b=2", agent=b""),
        (b"/x?a=1&b=2", (), b""),
    ),
    "a query of anything": (at(b'/up/x??a=../..&b=%00&c=\\"<>|^`{}%'), (b'/x??a=../..&b=%00&c=\\"<>|^`{}%', (), b"")),
    "an encoded question mark": (at(b"/up/x%3Fa=b"), (b"/x%3Fa=b", (), b"")),
    "twice encoded dots": (at(b"/up/%252e%252e/x"), (b"/%252e%252e/x", (), b"")),
    "an empty segment further in": (at(b"/up/a//x"), (b"/a//x", (), b"")),
    "a target of 16,000 bytes": (at(b"/up/" + b"a" * 16_000), (b"/" + b"a" * 16_000, (), b"")),
}

# Several requests on one connection: what each is answered, and what reached the upstream.
SEQUENCES: dict[str, tuple[bytes, list[int], list[bytes]]] = {
    "an encoded slash in a path of our own": (at(b"/api%2Fagents"), [404], []),
    "three": (NEXT * 3, [200, 200, 200], [b"/next"] * 3),
    "bodies": (
        framed(b"Content-Length: 5") + coded(b"Transfer-Encoding: chunked") + NEXT,
        [200] * 3,
        [b"/x", b"/x", b"/next"],
    ),
    "a body that looks like a request": (
        r(b"Content-Length: %d" % len(NEXT), body=NEXT) + NEXT,
        [200, 200],
        [b"/x", b"/next"],
    ),
    "more body than its length": (r(b"Content-Length: 3", body=b"hello") + NEXT, [200], [b"/x"]),
    "behind the last chunk": (chunks(b"0\r\n\r\n") + NEXT, [200, 200], [b"/x", b"/next"]),
    "a second with two hosts": (NEXT + get(b"Host: b") + NEXT, [200], [b"/next"]),
    "a second with both framings": (
        NEXT + coded(b"Transfer-Encoding: chunked\r\nContent-Length: 5") + NEXT,
        [200],
        [b"/next"],
    ),
    "behind a close": (get(b"Connection: close") + NEXT, [200], [b"/x"]),
    "behind keep-alive and close": (get(b"Connection: keep-alive, close") + NEXT, [200], [b"/x"]),
    "behind a 404 with a body": (
        r(b"Content-Length: 5", target=b"/none/x", body=b"hello") + NEXT,
        [404, 200],
        [b"/next"],
    ),
    "behind a 401 with a body": (r(b"Content-Length: 5", agent=b"", body=b"hello") + NEXT, [401, 200], [b"/next"]),
    "behind a 413 without its body": (r(b"Content-Length: 99999999", target=b"/up/v1/x") + NEXT, [413], []),
    "behind invalid JSON": (
        r(b"Content-Length: 3", b"Content-Type: application/json", target=b"/up/v1/x", body=b"{a}") + NEXT,
        [400, 200],
        [b"/next"],
    ),
    "the API's behind a call": (NEXT + at(b"/api/agents"), [200, 401], [b"/next"]),
    "a body that the API does not read": (
        get(b"Content-Length: 5", target=b"/healthz", body=b"hello") + NEXT,
        [200, 200],
        [b"/next"],
    ),
}

# What an upstream says, and what of it the client gets: status, body, whether whole.
OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS: dict[str, tuple[bytes, tuple[int, bytes | None, bool]]] = {
    "1xx before it": (
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 50 + OK + b"Content-Length: 2\r\n\r\nok",
        (200, b"ok", True),
    ),
    "1xx only": (b"HTTP/1.1 100 Continue\r\n\r\n", (502, None, True)),
    "101 to no upgrade": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
        (502, None, True),
    ),
    "both framings": (
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        (502, None, True),
    ),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", (502, None, True)),
    "a length of -2": (OK + b"Content-Length: -2\r\n\r\nok", (502, None, True)),
    "a length that is too long": (OK + b"Content-Length: 5\r\n\r\nok", (200, b"ok", False)),
    "a length that is too short": (OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil", (200, b"ok", True)),
    "no framing": (OK + b"\r\nok", (200, b"ok", True)),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", (200, b"ok", True)),
    "a broken chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", (200, b"ok", False)),
    "no last chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", (200, b"ok", False)),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=1\r\n\r\n", (200, b"ok", True)),
    "another coding": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", (502, None, True)),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", (204, b"", True)),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", (304, b"", True)),
    "a folded header": (OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", (502, None, True)),
    "CR in a value": (OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", (502, None, True)),
    "NUL in a value": (OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok", (502, None, True)),
    "a space in a name": (OK + b"X Y: a\r\nContent-Length: 2\r\n\r\nok", (502, None, True)),
    "a control character as reason": (b"HTTP/1.1 200 a\x01b\r\nContent-Length: 2\r\n\r\nok", (200, b"ok", True)),
    "a header of 200 KB": (OK + b"X: " + b"a" * 200_000 + b"\r\nContent-Length: 2\r\n\r\nok", (502, None, True)),
    "status 999": (b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", (502, None, True)),
    "status 20": (b"HTTP/1.1 20 X\r\nContent-Length: 0\r\n\r\n", (502, None, True)),
    "garbage": (b"garbage\r\n\r\n", (502, None, True)),
    "nothing": (b"", (502, None, True)),
    "our own headers, and one hop's": (
        OK + b"Connection: x-h\r\nX-H: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nX-Agent-Id: boss\r\n"
        b"X-Ledger-Budget-Remaining: 9\r\nContent-Length: 2\r\n\r\nok",
        (200, b"ok", True),
    ),
}
