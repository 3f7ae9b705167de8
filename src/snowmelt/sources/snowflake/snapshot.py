"""What a Snowflake table's queries agree on, as the ledger stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from snowmelt.choices import Snapshot

Policy = tuple[str, str, str]
"""Kind, name, and the column that it is set on, empty for one of the table."""


@dataclass(frozen=True, slots=True)
class ReadAs:
    """What the same query on the same moment gives other rows or values by: who reads, and through what.

    Time Travel reads old rows with today's columns, and policies show each role rows of its own.
    """

    role: str
    secondary_roles: str
    kind: str
    """TABLE or VIEW."""
    columns: tuple[tuple[str, str, str], ...]
    """Name, type, and masking policy of each column that is read."""
    policies: tuple[Policy, ...] | None
    """None where the role may not see which there are."""

    def differences(self, now: ReadAs) -> list[str]:
        """What is not as it was, in words; columns that were added since are nobody's business."""
        changes = []
        if self.role != now.role:
            changes.append(f"the role was {self.role} and is {now.role}")
        if self.secondary_roles != now.secondary_roles:
            changes.append("the secondary roles changed")
        found = {name: (type, policy) for name, type, policy in now.columns}
        for name, type, policy in self.columns:
            if name not in found:
                changes.append(f'column "{name}" is gone')
            elif found[name] != (type, policy):
                was, is_ = " ".join((type, policy)).strip(), " ".join(found[name]).strip()
                changes.append(f'column "{name}" was {was} and is {is_}')
        if self.policies != now.policies:
            changes.append("its masking or row access policies changed")
        return changes


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """One moment of a table by the server's clock, and how it is read."""

    kind: Snapshot
    moment: datetime
    filter: str | None
    """`source_filter` with its clocks set to the moment."""
    read_as: ReadAs
    clone: tuple[str, ...] = ()
    """Database, schema and name of the clone, as far as they are given."""

    def to_json(self) -> dict[str, object]:
        """Ready for the ledger; `from_json` gives the same snapshot back."""
        read_as = self.read_as
        return {
            "kind": self.kind.value,
            "moment": self.moment.astimezone(UTC).isoformat(),
            "filter": self.filter,
            "clone": list(self.clone),
            "role": read_as.role,
            "secondary_roles": read_as.secondary_roles,
            "read_from": read_as.kind,
            "columns": [list(column) for column in read_as.columns],
            "policies": None
            if read_as.policies is None
            else [list(policy) for policy in read_as.policies],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> TableSnapshot:
        """Raises ValueError for what this release did not write."""
        match value:
            case {
                "kind": str(kind),
                "moment": str(moment),
                "filter": str() | None as filter,
                "clone": list(clone),
                "role": str(role),
                "secondary_roles": str(secondary_roles),
                "read_from": str(read_from),
                "columns": list(columns),
                "policies": list() | None as policies,
            }:
                read_as = ReadAs(
                    role,
                    secondary_roles,
                    read_from,
                    tuple((name, type, policy) for name, type, policy in columns),
                    None
                    if policies is None
                    else tuple((kind, name, column) for kind, name, column in policies),
                )
                at = datetime.fromisoformat(moment)
                return cls(Snapshot(kind), at, filter, read_as, tuple(clone))
        raise ValueError(f"not a snapshot of a Snowflake table: {sorted(value)}")
