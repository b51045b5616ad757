"""The error classes of ctssl. Each is also the built-in that a caller would expect.

An error says what was expected and what came (`message`) and what to do next (`advice`).
"""


class CtsslError(Exception):
    """A fault that a user can mend; printed without a traceback.

    Args:
        message: what was expected and what came.
        advice: what to do next, one or two sentences.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message, advice)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n  What to do: {self.advice}" if self.advice else self.message


class ConfigError(CtsslError, ValueError):
    """The configuration is wrong; nothing was started."""


class ManifestError(CtsslError, ValueError):
    """The table of scans is wrong; nothing was started."""


class ScanError(CtsslError, ValueError):
    """One scan cannot be used: it is excluded, the cohort goes on."""


class StoreError(CtsslError, OSError):
    """A patch store is missing, damaged or made for another atlas."""


class WeightsError(CtsslError, ValueError):
    """Weights are missing or do not fit the model that should take them."""


class CohortError(CtsslError, ValueError):
    """The cohort as a whole does not allow this step (too few scans, labels, subjects)."""
