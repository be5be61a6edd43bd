"""Every error tokpack raises on purpose.

Each class carries the exit code with which the command line ends. Messages start in lower case, name
the value and the file, and end with what to do. A :class:`TokpackError` is the user's business and is
shown without a traceback; any other exception is a defect of tokpack.

Exit codes:

- 0: good
- 1: damaged; data is not what it must be
- 2: usage; the request cannot be carried out as asked
- 3: incomplete; work was begun and not finished, the same command continues it
- 4: could not read or write; the operating system refused
- 5: mismatch; two things that must be equal are not
- 75: locked; another process is at work there
"""

from __future__ import annotations

__all__ = [
    "DamagedError",
    "DocumentError",
    "IncompleteError",
    "LockedError",
    "MismatchError",
    "PluginError",
    "SpecialTokenError",
    "StorageError",
    "TokpackError",
    "UnknownPluginError",
    "UnsupportedError",
    "UsageError",
]


class TokpackError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 2


class UsageError(TokpackError):
    """The request cannot be carried out as asked."""


class PluginError(UsageError):
    """An installed plugin is broken, clashes with another, or was made for other hooks."""


class UnknownPluginError(UsageError, KeyError):
    """No installed plugin has this name."""

    # KeyError shows the repr of its argument; users must see the sentence.
    __str__ = Exception.__str__


class UnsupportedError(UsageError):
    """An engine cannot reproduce this exactly, and says by name what it lacks."""


class DamagedError(TokpackError):
    """Stored data is not what it must be."""

    exit_code = 1


class DocumentError(DamagedError):
    """An input document cannot be encoded as it is."""


class SpecialTokenError(DocumentError):
    """A document spells a special token while the policy is ``error``.

    ``document`` is the index of the first such document in its batch.
    """

    def __init__(self, message: str, *, document: int) -> None:
        super().__init__(message)
        self.document = document

    def __reduce__(self) -> tuple[object, ...]:
        return (_special_token_error, (str(self), self.document))


def _special_token_error(message: str, document: int) -> SpecialTokenError:
    return SpecialTokenError(message, document=document)


class IncompleteError(TokpackError):
    """A dataset, shard set or checkpoint was begun and never finished."""

    exit_code = 3


class StorageError(TokpackError):
    """The operating system refused to read or write."""

    exit_code = 4


class MismatchError(TokpackError):
    """Two things that must be equal are not: digest, tokenizer, options, sources."""

    exit_code = 5


class LockedError(TokpackError):
    """Another process is at work in the same directory."""

    exit_code = 75
