"""Errors a person caused, worded for that person: where, what is wrong, and what would be right."""


class InputError(ValueError):
    """Bad input: a file, an option, a model. Command lines print it without a traceback and exit with 2."""

    exit_code = 2


class LutError(InputError):
    """A latency table, its journal or its device description is not usable."""
