"""Devices, latency tables, and how they are measured. Runs without TVM unless a kernel is built."""

from .device import Device
from .spec import Latency, OpSpec
from .table import LatencyTable

__all__ = ["Device", "Latency", "LatencyTable", "OpSpec"]
