"""Metering: usage read from what upstreams really answered."""
