"""What all tests share, those of the plugins too: no limit of milliseconds, and a cache new for every run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# No test depends on how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests learn out of the user's folder, and what the user's holds out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKPACK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
