"""Whether a cluster is one machine to a command: the same code on every node, and one folder for the results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

from fedrevive.provenance import code_hash, versions
from fedrevive.runtime.cluster_session import cluster_session
from fedrevive.runtime.cluster_survey import Node, Report, survey
from fedrevive.settings.errors import ExitCode, UserError, shown


def require_alike(address: str, storage: Path | None) -> list[Node]:
    """The nodes of a cluster that has let us in.

    Args:
        address: host:port of its head.
        storage: where actors write results; None = they write none.

    Raises:
        UserError: exit code 2, not all of them share the storage; 5, they differ from this process in versions or code.
    """
    with cluster_session(address):
        reports = survey(storage or Path(gettempdir()))
    for line in differences(reports):
        raise UserError(line, exit_code=ExitCode.ENVIRONMENT)
    for line in unshared(reports, storage) if storage else ():
        raise UserError(line)
    return [report.node for report in reports]


def differences(reports: list[Report]) -> Iterator[str]:
    """Nodes on which other code than here would run, one line each."""
    here, code = versions(), code_hash()
    for report in reports:
        at = f"node {report.node.address}"
        if report.facts is None:
            yield f"{at}: {report.problem}; install what this machine has, or use --submit"
            continue
        other = {name: v for name, v in report.facts.versions.items() if v != here[name]}
        if other:
            name, version = next(iter(other.items()))
            yield f"{at}: has {name} {version}, here it is {here[name]}; results need the same everywhere"
        elif report.facts.code != code:
            yield f"{at}: has other fedrevive sources than here; install the same wheel everywhere, or use --submit"


def unshared(reports: list[Report], storage: Path) -> Iterator[str]:
    """Nodes that cannot write where results go, one line each."""
    for report in reports:
        if report.facts is None or (report.facts.reads and report.facts.writes):
            continue
        problem = "cannot write there" if report.facts.reads else "does not see it"
        yield (
            f"--output: {shown(str(storage))}: node {report.node.address} {problem}; use a folder that all nodes "
            "share, such as a network file system's"
        )
