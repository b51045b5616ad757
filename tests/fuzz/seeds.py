"""Every kind of file that the project takes in, by name."""

from fuzz.images import image_kinds
from fuzz.kind import Kind
from fuzz.stores import store_kinds
from fuzz.tables import table_kinds


def kinds() -> dict[str, Kind]:
    """Name -> kind."""
    return image_kinds() | table_kinds() | store_kinds()
