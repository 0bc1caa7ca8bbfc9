"""Metering: what an answer says it used, read from a copy of its bytes as they pass."""

from proxy.metering.ask_usage import UsageStripper, ask_for_usage
from proxy.metering.base import Metered, UsageReader
from proxy.metering.decode import decodable
from proxy.metering.reader import reader_for
from proxy.metering.streams import StreamReader

__all__ = ["Metered", "StreamReader", "UsageReader", "UsageStripper", "ask_for_usage", "decodable", "reader_for"]
