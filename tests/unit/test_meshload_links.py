"""Which URLs a link can carry, and what becomes of them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from meshload.errors import TargetError
from meshload.links import behind, relayed_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://broker/default/m", "broker:4222"),
        ("nats://me:pw@10.0.0.7:4333/default/m", "10.0.0.7:4333"),
        ("http://[::1]:8080/x", "[::1]:8080"),
        ("kserve://server/m", "server:8000"),
    ],
)
def test_the_relay_connects_to_the_urls_own_host_and_port(url: str, address: str) -> None:
    assert relayed_address(url) == address


@pytest.mark.parametrize("url", ["https://server/x", "grpcs://server/a.B/C"])
def test_encrypted_targets_are_refused_with_a_reason(url: str) -> None:
    with pytest.raises(TargetError, match="certificate"):
        relayed_address(url)


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(TargetError, match="names no host"):
        relayed_address("http:///x")


def test_only_the_address_of_the_url_changes() -> None:
    url = "nats://me:p%40w@broker:4222/default/m/cut?x=1"
    assert behind(urlsplit(url), 5555) == "nats://me:p%40w@127.0.0.1:5555/default/m/cut?x=1"
