"""What a front end shows of each version of a model at /metrics."""

import ssl
import urllib.request

from simulators.front_end import FrontEnd

from wardian.serving.queue.lease import Lane


def scrape(front: FrontEnd) -> str:
    context = ssl._create_unverified_context()  # whose certificate it is does not matter here
    with urllib.request.urlopen(f"{front.url}/metrics", context=context, timeout=10) as answer:
        return answer.read().decode()


def test_rate_errors_duration_and_delay_stand_there_by_version() -> None:
    with FrontEnd() as front:
        counts = front.dispatcher.counters.of(Lane("digits", 2))
        for outcome, seconds in (("answered", 0.1), ("answered", 0.2), ("Timeout", 9.0)):
            front.call(counts.end, outcome, seconds)
        text = scrape(front)
    for line in (
        'wardian_inferences_total{model="digits",outcome="Timeout",version="2"} 1.0',
        'wardian_inferences_total{model="digits",outcome="answered",version="2"} 2.0',
        'wardian_inference_seconds_bucket{le="0.25",model="digits",version="2"} 2.0',
        'wardian_inference_seconds_count{model="digits",version="2"} 3.0',
        'wardian_queue_delay_seconds{model="held",version="1"} 0.5',
        'wardian_queue_waiting{model="held",version="1"} 0.0',
    ):
        assert line in text, line
