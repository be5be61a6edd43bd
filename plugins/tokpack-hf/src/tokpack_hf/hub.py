"""Files from the Hugging Face hub, with its own environment variables and cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from tokpack.errors import StorageError, UsageError
from tokpack.network import reachable

__all__ = ["hub_files"]


def hub_files(model: str, required: str, optional: Sequence[str]) -> dict[str, Path]:
    """Return the cached paths of files of a model of the hub, fetching what is not there yet.

    ``model`` is ``org/name`` or ``org/name@revision``. ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT`` and
    ``HF_HUB_OFFLINE`` mean what they mean elsewhere.

    Raises:
        UsageError: the hub has no such model or revision, it is closed to this user, or lacks ``required``.
        StorageError: the hub cannot be reached and ``required`` is not in the cache.
    """
    repository, _, revision = model.partition("@")
    # The hub's client retries for half a minute before it says that there is no network.
    cached_only = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
    found = {}
    for name in (required, *optional):
        try:
            path = huggingface_hub.hf_hub_download(
                repository, name, revision=revision or None, local_files_only=cached_only
            )
        except errors.LocalEntryNotFoundError as error:
            if name == required:
                raise StorageError(_out_of_reach(model, name)) from error
        except errors.RemoteEntryNotFoundError as error:
            if name == required:
                raise UsageError(
                    f"the model {model!r} of the hub has no {name}; choose one that has, or save its "
                    "tokenizer with transformers' save_pretrained and name that folder: hf:./DIR"
                ) from error
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise UsageError(
                f"the hub has no {model!r} that you may read; check the name, set HF_TOKEN for a closed "
                "model, or name a local folder: hf:./DIR"
            ) from error
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise StorageError(f"{_out_of_reach(model, name)} ({reason})") from error
        else:
            found[name] = Path(path)
    return found


def _out_of_reach(model: str, name: str) -> str:
    return (
        f"cannot fetch {name} of {model!r}: {constants.ENDPOINT} is out of reach or HF_HUB_OFFLINE is set, "
        "and the cache under HF_HOME does not hold it; fetch the model where there is a network, or name a "
        "local folder: hf:./DIR"
    )
