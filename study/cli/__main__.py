"""`python -m study.cli` is `logit-bias`."""

from study.cli.main import main

main()
