"""Nothing is skipped silently in continuous integration: with LUTIER_CI set, a skip is a failure unless it is for what
this machine's CPU does not have, or for published data on a machine where LUTIER_DATA names none."""

import os

import pytest

ALLOWED = ("this CPU lacks", "LUTIER_DATA is not set")


def judged(report):
    """The report, failed when it is a skip that continuous integration does not accept."""
    if os.environ.get("LUTIER_CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED):
            report.outcome, report.longrepr = "failed", f"skipped, which LUTIER_CI forbids: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return judged((yield))
