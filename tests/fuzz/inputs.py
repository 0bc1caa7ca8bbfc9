"""What each target's inputs are drawn from, beside plain bytes: the grammar of what it reads, with slips."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.material import NUMBERS, WORDS, array_of, chosen, json_text, stream_of
from tests.fuzz.requests import KEY

Bytes = st.SearchStrategy[bytes]


def of(*parts: str, most: int = 12) -> Bytes:
    """Bytes put together of these and of any."""
    known = st.sampled_from([part.encode() for part in parts])
    return st.lists(known | st.binary(max_size=3), max_size=most).map(b"".join)


def joined(*parts: Bytes) -> Bytes:
    return st.tuples(*parts).map(b"".join)


def several(part: Bytes, most: int = 4) -> Bytes:
    return st.lists(part, max_size=most).map(b"".join)


# -- answers ----------------------------------------------------------------------------------------------------------
DOCUMENT = json_text()
EVENTS = stream_of(DOCUMENT)
ARRAY = array_of(DOCUMENT)
ENCODED = chosen(st.binary(max_size=400))
USAGE_CHUNKS = stream_of(
    DOCUMENT
    | st.sampled_from(
        (b'{"choices":[],"usage":{"prompt_tokens":1}}', b'{"choices": [],"usage": {}}', b'{"choices":[1],"usage":{}}')
    )
)
ANSWER = chosen(DOCUMENT | EVENTS | ARRAY)

# -- policies ---------------------------------------------------------------------------------------------------------
_EXAMPLE = (Path(__file__).parents[2] / "config" / "example.yaml").read_text("utf-8").splitlines(keepends=True)
_ODD = (
    *("${env:KEY}", "${env:NONE}", "${env:NONE:-x}", "${env:ODD}", "${env:AGENT}"),
    *("${file:/run/key}", "${file:/nowhere}", "${file:/run/binary}", "alk_hush", "n" * 300, "*" * 50),
    *("&a", "*a", "!!python/object:x", "<<: {}", "{a: {b: [", "[" * 25, "]", "'", '"\\ud800"', '"\\x00"', "|\n  x"),
    *("- ", "? ", ": ", "\t", "\r", "\ufeff", "\u2028", "\u202e", "#", "---\n", "%YAML 9.9\n"),
    *("1e999999", ".inf", "0x10", "2026-02-30", "Europe/../x", "{input_mtok: {base: 1, tiers: [[1, 2], [1, 3]]}}"),
    *NUMBERS[:9],
    *WORDS[:9],
)


@st.composite
def policies(draw: st.DrawFn) -> bytes:
    """The example, with lines left out, moved, and odd things put into them."""
    lines = list(_EXAMPLE)
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                del lines[at : at + draw(st.integers(1, 40))]
                lines = lines or ["\n"]
            case 1:
                lines.insert(at, draw(st.sampled_from(_EXAMPLE)))
            case 2:
                head, colon, _ = lines[at].partition(": ")
                lines[at] = f"{head}{colon}{draw(st.sampled_from(_ODD))}\n"
            case _:
                where = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:where] + draw(st.sampled_from(_ODD) | st.text(max_size=4)) + lines[at][where:]
    return "".join(lines).encode("utf-8", "surrogatepass")


# -- requests ---------------------------------------------------------------------------------------------------------
_TARGET = "/ // .. . %2e %2F %5c %252e %3B ; ? # %00 %0d a b z %41 %C3%A9 \\ v1 models :run"
PATH = of(*_TARGET.split())
HOST = of("localhost", "127.0.0.1", "[::1]", ":", "80", "\nhttp://", ".", "evil", "0x7f.1", "@", most=8)
_SLOTS = (
    *("authorization: Bearer ", "authorization: Token ", "authorization:", "x-api-key:", "api-key:"),
    *("x-goog-api-key: ", "x-ledger-key:", "x-agent-id:", "cookie: "),
)
_SLOT = st.sampled_from([f"\n{slot}".encode() for slot in _SLOTS])
_CREDENTIAL = of(KEY, "alk_", "named", "alk%5F", "sk-1", " ", "agent_ledger_session=x", "; ", "a=b", most=4)
_QUERY = of("key=", KEY, "alk_x", "&", "alt=sse", "k%65y=", "%61lk_", most=6)
HEAD = joined(_QUERY, several(joined(_SLOT, _CREDENTIAL)))

_DISPOSITION = st.sampled_from(
    (b"Content-Disposition: form-data", b"content-disposition:form-data", b"Content-Disposition: attachment")
)
_NAME = st.sampled_from(
    (b'name="model"', b'name="n"', b"name=a", b'name="x[]"', b'name="q\\"q"', b"name*=utf-8''model", b'Name="\xc3\xa9"')
)
_MORE = st.sampled_from(
    (
        b"",
        b'; filename="f"',
        b"; filename*=utf-8''f",
        b"\r\nContent-Type: a/b",
        b'; x="; name=y"',
        b"\r\n X: y",
        b"; name=z",
    )
)
_TEXT = of("\r\n", "--b", "--b--", "\n--b\n", "text", "\0", most=4)
_PART = st.builds(lambda *parts: b"--b\r\n%s; %s%s\r\n\r\n%s\r\n" % parts, _DISPOSITION, _NAME, _MORE, _TEXT)
_END = st.sampled_from((b"--b--\r\n", b"--b--", b"--b\r\n", b"", b"\r\n--b--x"))
_MULTIPART = joined(several(_PART), _END)
_PAIRS = of("model", "=", "&", "%20", "+", "%", "%ff", ";", "a[]=1", "n=1", most=16)
FORM = chosen(_MULTIPART | _PAIRS)
BODY = chosen(DOCUMENT | _MULTIPART)
_ASKED = of("limit=", "since=", "2026-01-01", "9", "&", "groupBy=", "agent,day", "%00")
_REPORTED = json_text(["text", "line", "metadata", "cost", "limit", "outcome", "flag", "success"])
FIELDS = joined(_ASKED, st.just(b"\n"), _REPORTED)

# -- records ----------------------------------------------------------------------------------------------------------
MONEY = st.sampled_from(NUMBERS).map(str.encode) | st.decimals().map(lambda value: str(value).encode())
POINTER = joined(of("/", ".", "~1", "~0", "usage", "0", "17"), st.just(b"\n"), DOCUMENT)

_KINDS = ("carry", "authorize", "settle", "record", "denied", "repeat", "agent", "policy", "acknowledge", "alert")
_KEYS = (
    *("action", "holds", "limits", "alerts", "verdict", "pause", "idempotency", "agents", "counts", "agent_id"),
    *("budgets", "opened", "reheld", "id", "book"),
)
_ACTION = json.dumps(
    {"id": "a", "agent_id": "w", "action_type": "t", "target": "x:y", "cost": 1, "outcome": "success", "created_at": 1}
)
_ACTIONS = [
    _ACTION[:-1] + more for more in ("}", ',"usage":{"seconds":0.10}}', ',"flags":["x"]}', ',"flags":7}', ',"no":1}')
]
_VALUES = (
    *(
        '[["m","g",0,9]]',
        '[["m","g",0,9,5]]',
        "[1]",
        "7",
        '"x"',
        "null",
        "{}",
        '{"b":["s",1]}',
        '{"b":7}',
        '[{"id":"x"}]',
    ),
    *(
        '["a","r",1,2]',
        '["k","d"]',
        '{"reason":"unpriced"}',
        '{"a":[["m","g",0,9]]}',
        "[[]]",
        "[{}]",
        '{"a":{}}',
        "true",
    ),
    *_ACTIONS,
)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """Lines of a journal, of values that its engine wrote and others."""
    version, kind = draw(st.sampled_from(("1", "2", "3", "true", "1.0"))), draw(st.sampled_from(_KINDS))
    members = [f'"v":{version}', '"seq":3', '"at":5', '"prev":"x"', f'"type":"{kind}"']
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=4, unique=True)):
        members.append(f'"{key}":{draw(st.sampled_from(_ACTIONS if key == "action" else _VALUES))}')
    return ("{" + ",".join(members) + "}").encode()
