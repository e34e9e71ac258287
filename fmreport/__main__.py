"""The command line: ``python -m fmreport report --profile smoke``; ``python -m fmreport --help`` tells the rest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fmlib.data import DataError
from fmlib.profiles import ProfileError, available_profiles, load_profile
from fmlib.training import default_device
from fmreport.merge import PAPERS


def default_profile() -> str:
    """The profile for this machine: gpu where CUDA is usable, else cpu."""
    return {"cuda": "gpu"}.get(default_device().type, "cpu")


def report(arguments: argparse.Namespace) -> int:
    from fmreport.build import write_report
    from fmreport.runner import BUILD_DIR, run_profile

    build_dir = Path(arguments.build_dir).resolve() if arguments.build_dir else BUILD_DIR
    outcome = run_profile(load_profile(arguments.profile or default_profile()), build_dir=build_dir)
    write_report(outcome, paper=arguments.paper)
    return 1 if outcome.failures else 0


def study(arguments: argparse.Namespace) -> int:
    from fmreport.studies import run_study

    for name in arguments.names:
        run_study(name)
    return 0


def publish(arguments: argparse.Namespace) -> int:
    from fmreport.publish import NotPublishable
    from fmreport.publish import publish as put_into_docs

    try:
        print(f"published: {put_into_docs(load_profile(arguments.profile or default_profile()))}")
    except NotPublishable as error:
        print(f"not published: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m fmreport", description="Compare image classifiers on FashionMNIST.")
    commands = top.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("report", help="run a profile's stale models and write the report")
    command.add_argument("--profile", help=f"{', '.join(available_profiles())}; default: gpu where CUDA is usable, else cpu")
    command.add_argument("--build-dir", metavar="FOLDER", help="where to build; default: build/")
    command.add_argument("--paper", choices=PAPERS, default=PAPERS[0], help="the PDF's paper; default: %(default)s")
    command.set_defaults(run=report)
    command = commands.add_parser("study", help="run searches or ablations of params/studies, keep their tables")
    command.add_argument("names", nargs="+", help="for example cnn-ablation")
    command.set_defaults(run=study)
    command = commands.add_parser("publish", help="copy a finished report into docs/ and refresh the README")
    command.add_argument("--profile", help="cpu or gpu; default as for report")
    command.set_defaults(run=publish)
    return top


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)  # progress must show at once, in a pipe too
    arguments = parser().parse_args()
    try:
        return arguments.run(arguments)
    except (ProfileError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the next run goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
