"""Print the validation table of docs/accelerator.md: what is published, what the model says, and the errors.

python tests/bench/accelerator_tables.py [--all]
"""

import importlib.util
import sys
from pathlib import Path

HOME = Path(__file__).parents[1] / "targets" / "sparse"
_spec = importlib.util.spec_from_file_location("sparse_rows", HOME / "rows.py")
rows = importlib.util.module_from_spec(_spec)
sys.modules["sparse_rows"] = rows
_spec.loader.exec_module(rows)


def main() -> None:
    found = [row for source in (*rows.SOURCES, *rows.SLOW) for row in source()]
    if "--all" in sys.argv:
        for row in found:
            print(f"{row.table:42} {row.item:18} {row.published:12.5g} {row.found:12.5g} {row.error:+7.1%}")
        print()
    print(f"{'table':42} {'numbers':>7} {'mean':>7} {'largest':>8}")
    for table, (mean, largest) in rows.summary(found).items():
        number = sum(row.table == table for row in found)
        print(f"{table:42} {number:7} {mean:7.2%} {largest:8.2%}")


if __name__ == "__main__":
    main()
