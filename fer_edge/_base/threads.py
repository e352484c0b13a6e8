"""How many threads this process may really use."""

import os
from pathlib import Path


def available_threads(root: Path = Path("/")) -> int:
    """Return the processors granted by affinity mask and cgroup quota, at least 1.

    Containers see every processor of the machine; starting a thread for each of them while the
    quota allows two makes inference several times slower.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    if hasattr(os, "sched_getaffinity"):
        threads = len(os.sched_getaffinity(0))
    else:
        threads = os.cpu_count() or 1
    quota = _cgroup_quota(root)
    return max(1, threads if quota is None else min(threads, int(quota + 0.5)))


def _cgroup_quota(root: Path) -> float | None:
    """Return the processors that the tightest control group grants, or None without a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        # Hierarchy, controllers, group; version 2 names no controllers.
        _, controllers, group, *_ = [*line.split(":", 2), "", ""]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / controllers
        # Inside a container the group's path may be the host's; its own limit is then at the top.
        parts = Path(group.lstrip("/")).parts
        for depth in range(len(parts) + 1):
            folder = base.joinpath(*parts[:depth])
            quotas.append(_quota_v1(folder) if controllers else _quota_v2(folder))
    limits = [quota for quota in quotas if quota is not None]
    return min(limits, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
