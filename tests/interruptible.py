"""Processes that a test interrupts."""

import signal


def interruptible() -> None:
    """For `preexec_fn`: SIGINT works in the child even where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
