"""The timeline's workload: the same timeline every time, and more clients are other work."""

from fedrevive.benchmark.events import _played


def test_the_same_timeline_again():
    first, again, wider = _played(100, 300), _played(100, 300), _played(1000, 300)
    assert first.checksum == again.checksum != wider.checksum
    assert first.more["rate"] > 0 < first.more["arrival"]
