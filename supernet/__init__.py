"""Supernets: conversion of a model, search space, relaxed forward, extraction."""

from .arch import Arch
from .choice import Choice, Gates
from .extract import Subnet, extract
from .register import register_op
from .saved import load_subnet, save_subnet
from .schedule import Schedule, SearchOp
from .space import SearchSpace
from .supernet import Supernet

__all__ = [
    "Arch", "Choice", "Gates", "Schedule", "SearchOp", "SearchSpace", "Subnet", "Supernet", "extract", "load_subnet",
    "register_op", "save_subnet",
]  # fmt: skip
