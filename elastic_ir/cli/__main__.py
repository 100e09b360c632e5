"""``python -m elastic_ir.cli``."""

from elastic_ir.cli import main

main()
