"""How every command line ends: the exit status, and the line on stderr that a person can act on.

0 done, 2 bad input or a system error, 3 a budget that can't be reached, 130 Ctrl-C with the command that resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from .errors import InputError

INTERRUPTED = 130
SYSTEM_ERROR = 2


def guard(function: Callable[[], int], resume: str | None = None) -> int:
    """function()'s exit status, or that of the error a person can act on: one line (user code: its own traceback
    below) instead of ours. resume: the command that continues what was interrupted. Guards may be nested."""
    hint = f"resume with: {resume}" if resume else ""
    try:
        return function()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a full disk, no permission, a solver out of time
        reason = error.strerror or str(error) or type(error).__name__
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{reason}" + (f"; {hint}" if hint else ""), file=sys.stderr)
        return SYSTEM_ERROR
    except KeyboardInterrupt:
        print("\nstopped" + (f"; {hint}" if hint else ""), file=sys.stderr)
        return INTERRUPTED
