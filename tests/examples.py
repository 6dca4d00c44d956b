"""How many examples a property test tries: few by default, as many as LLMOBS_TEST_EXAMPLES says before a release."""

import os

from hypothesis import HealthCheck, settings

__all__ = ["EXAMPLES", "load_profile", "some"]

EXAMPLES = int(os.environ.get("LLMOBS_TEST_EXAMPLES", "25"))


def load_profile() -> None:
    """Make that the default of every property test. None has a time limit: on a busy machine it would fail."""
    settings.register_profile(
        "llmobs",
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        derandomize="CI" in os.environ,
    )
    settings.load_profile("llmobs")


def some(share: float) -> int:
    """How many a test tries whose examples are dear, as a share of what the others do."""
    return max(1, round(EXAMPLES * share))
