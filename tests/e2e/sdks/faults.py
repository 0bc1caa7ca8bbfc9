"""What an SDK raises, told alike for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import cohere.core
import pytest

from tests.e2e.sdks.calls import Call
from tests.e2e.sdks.clients import Side


class Fault(NamedTuple):
    kind: type[BaseException]
    message: str


def fault(call: Call, side: Side, *arguments: Any) -> Fault:
    """What that call raises."""
    with pytest.raises(Exception) as raised:
        call(side, *arguments)
    error = raised.value
    # Cohere's SDK shows the answer's headers too, which are another each time.
    return Fault(type(error), str(error.body if isinstance(error, cohere.core.ApiError) else error))
