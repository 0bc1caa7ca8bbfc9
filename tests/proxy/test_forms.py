from __future__ import annotations

import random

import httpx
import pytest

from proxy.forms import PARTS_MAX, TEXT_MAX, Form, FormError, form_of

MULTIPART = "multipart/form-data; boundary=b0undary"
URLENCODED = "application/x-www-form-urlencoded"


def part(disposition, content=b"x", *headers):
    lines = [b"--b0undary", b"Content-Disposition: form-data; " + disposition, *headers, b"", content, b""]
    return b"\r\n".join(lines)


def multipart(*parts, end=b"--b0undary--\r\n"):
    return b"".join(parts) + end


def sent(**kwargs):
    request = httpx.Request("POST", "http://upstream/v1/audio/transcriptions", **kwargs)
    return request.headers["content-type"], request.read()


def test_what_an_sdk_sends():
    sound = random.Random(3).randbytes(300_000)
    content_type, body = sent(
        data={"model": "whisper-1", "prompt": "Grüße\r\n", "timestamp_granularities[]": ["word", "segment"]},
        files={"file": ('a; name="b.mp3', sound, "audio/mpeg")},
    )
    fields = {"model": "whisper-1", "prompt": "Grüße\r\n", "timestamp_granularities[]": "word"}
    assert form_of(content_type, body) == Form(fields, 300_000)


def test_urlencoded():
    assert form_of(f"{URLENCODED}; charset=utf-8", b"model=a%20b+c&n=&x[]=1&x[]=2") == Form(
        {"model": "a b c", "n": "", "x[]": "1"}
    )


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/mixed; boundary=b0undary", "text/plain"])
def test_what_is_no_form_is_none(content_type):
    assert form_of(content_type, multipart(part(b'name="model"'))) is None


def test_a_form_without_parts():
    assert form_of(MULTIPART, multipart()) == Form()
    assert form_of(URLENCODED, b"") == Form()


def test_files_may_share_a_name():
    body = multipart(part(b'name="image"; filename="a"', b"12"), part(b'name="image"; filename="b"', b"345"))
    assert form_of(MULTIPART, body) == Form({}, 5)


def test_a_long_text_is_left_out_and_the_rest_is_kept():
    body = multipart(
        part(b'name="prompt"', b"p" * (TEXT_MAX + 1)), part(b'name="model"', b"m"), part(b'name="n"', b"1" * TEXT_MAX)
    )
    assert form_of(MULTIPART, body) == Form({"model": "m", "n": "1" * TEXT_MAX})
    assert form_of(URLENCODED, b"prompt=" + b"p" * (TEXT_MAX + 1) + b"&model=m") == Form({"model": "m"})


@pytest.mark.parametrize("body", [b"&" * 1_000_000, b"%41" * 500_000, (b"a=" + b"%41" * TEXT_MAX + b"&") * 6 + b"b=1"])
def test_a_urlencoded_form_that_would_take_long_to_undo_is_refused(body):
    with pytest.raises(FormError, match=r"too long|parts"):
        form_of(URLENCODED, body)


def test_a_long_urlencoded_value_is_not_undone():
    assert form_of(URLENCODED, b"file=%zz" + b"%41" * 5_000_000 + b"&model=m") == Form({"model": "m"})


@pytest.mark.parametrize(
    "body",
    [
        multipart(part(b'name="model"', b"cheap"), part(b'name="model"', b"dear")),
        multipart(part(b'name="model"', b"cheap"), part(b'name="model[]"', b"dear")),
        multipart(part(b'name="model"; filename="m"', b"cheap"), part(b'name="model"', b"dear")),
        multipart(part(b'name="model"; name="other"')),
        multipart(part(b"name=\"other\"; name*=utf-8''model")),
        multipart(part(b"name=\"model\"; filename*=utf-8''f")),
        multipart(part(b'name="model"', b"cheap", b'Content-Disposition: form-data; name="other"')),
        multipart(part(b'name="model"', b"cheap", b"Content-Transfer-Encoding: base64")),
        multipart(part(b'name="other"\nContent-Disposition: form-data; name="model"')),
        multipart(part(b'name="other"', b'a\n--b0undary\nContent-Disposition: form-data; name="model"\n\ndear')),
        multipart(part(b'name="model"'), end=b"--b0undary--\r\n" + multipart(part(b'name="model"', b"dear"))),
    ],
)
def test_hazard_30_what_two_readers_could_understand_differently_is_refused(body):
    with pytest.raises(FormError):
        form_of(MULTIPART, body)


def test_hazard_30_urlencoded_too():
    with pytest.raises(FormError):
        form_of(URLENCODED, b"model=cheap&mod%65l=dear")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"model=gpt",
        part(b'name="model"', b"cut short"),
        multipart(part(b'name="model"'), end=b""),
        multipart(part(b'filename="a"')),
        multipart(part(b'name="model')),
        multipart(b'--b0undary\r\nContent-Type: text/plain; name="model"\r\n\r\nx\r\n'),
        multipart(b"--b0undary\r\n\r\nx\r\n"),
        multipart(part(b'name="model"', b"\xff")),
        multipart(part(b'name="model"', "dear".encode("utf-16"))),
        multipart(part(b'name="m\xff"')),
        multipart(part(b'name="' + b"n" * 5000 + b'"')),
        multipart(*[part(f'name="f{index}"'.encode()) for index in range(PARTS_MAX + 1)]),
        multipart(*[part(b'name="f[]"')] * (PARTS_MAX + 1)),
    ],
)
def test_what_is_malformed_or_too_much_is_refused(body):
    with pytest.raises(FormError):
        form_of(MULTIPART, body)


@pytest.mark.parametrize("body", [b"model=%ff", "model=ü".encode(), b"&".join([b"a[]=1"] * (PARTS_MAX + 1))])
def test_what_is_malformed_urlencoded_is_refused(body):
    with pytest.raises(FormError):
        form_of(URLENCODED, body)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=b0undary; boundary=other",
        "multipart/form-data; boundary=b0undary; boundary*=utf-8''other",
        "multipart/form-data; boundary=" + "b" * 300,
    ],
)
def test_a_boundary_that_is_not_stated_once_is_refused(content_type):
    with pytest.raises(FormError):
        form_of(content_type, multipart(part(b'name="model"')))


def test_promise_10_no_error_quotes_the_form():
    with pytest.raises(FormError) as raised:
        form_of(MULTIPART, multipart(part(b'name="secret"', b"secret"), part(b'name="secret"', b"secret")))
    assert "secret" not in str(raised.value)


def test_nothing_else_is_ever_raised_and_no_name_is_said_twice():
    rng = random.Random(5)
    whole = multipart(part(b'name="model"', b"m"), part(b'name="file"; filename="f"', b"\r\n--b0undar\r\n"))
    for _ in range(3_000):
        garbled = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(garbled))
            garbled[at : at + rng.randint(0, 3)] = rng.choice(
                [b"", b"\r\n", b"--b0undary", b'"', b";", b"\0", b"=", b":"]
            )
        try:
            form = form_of(MULTIPART, bytes(garbled))
        except FormError:
            continue
        assert form is not None
        assert sum(map(len, form.fields.values())) + form.file_bytes <= len(garbled)
