"""`python -m nls` and the command `nls`."""

import sys


def main() -> None:
    try:
        from nls.repro.cli import main as command
    except ModuleNotFoundError as error:
        extras = "pip install 'negative-label-smoothing[lab,report,repro,docs]'"
        sys.exit(f"nls: the command needs the package {error.name}, which the loss does not: {extras}")
    command()


if __name__ == "__main__":
    main()
