"""Makes this folder importable, for helper modules that several rooms' tests share; `--write-docs`."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that rewrites pages of docs/ from what the tests see."""
    parser.addoption("--write-docs", action="store_true", help="write pages of docs/ that tests compare")


@pytest.fixture(scope="session")
def write_docs(request: pytest.FixtureRequest) -> bool:
    """Whether to write what was seen of an input into its page, in place of comparing."""
    return bool(request.config.getoption("--write-docs"))
