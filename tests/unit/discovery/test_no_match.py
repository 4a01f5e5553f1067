"""The errors of a run that would trace nothing."""

from __future__ import annotations

from pypwru.discovery.no_match import nothing_attached_error


def test_most_frequent_error_is_named() -> None:
    ignored = [("one", "Invalid argument"), ("two", "Device busy"), ("three", "Device busy")]
    assert str(nothing_attached_error(ignored)) == (
        "Nothing is attached: the kernel refused all 3, 2 of them with 'Device busy'; --debug "
        "names each, and another --backend may be allowed"
    )


def test_without_attempt_error_is_that_of_pwru() -> None:
    assert str(nothing_attached_error([])).startswith("No kprobe/tc-bpf/xdp to trace!")
