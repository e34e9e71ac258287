"""The command line: ``python -m fmreport report --profile smoke``; ``--help`` tells the rest."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmlib.data import DataError, nearest
from fmlib.device import default_device
from fmlib.fitting import FitError
from fmlib.models.registry import ParameterError
from fmlib.profiles import Profile, ProfileError, available_profiles, load_profile
from fmlib.profiles import examine as examine_profile
from fmlib.project import HERE
from fmlib.results import ResultError

SCHEDULER_HELP = "fit on a Dask cluster: tcp://HOST:8786, or local:2 for two workers here"
PAPERS = ("a4", "us-letter")
FAILED, BAD_INPUT, STOPPED = 1, 2, 130  # exit statuses
STATUSES = (
    "exit status: 0 success; 1 a fit, a chapter or a publication failed, or a model is not fitted "
    "yet; 2 wrong input or surroundings; 130 stopped"
)


def profile_of(arguments: argparse.Namespace) -> Profile:
    """The profile that is named, or this machine's: gpu where CUDA is usable, else cpu."""
    return load_profile(arguments.profile or {"cuda": "gpu"}.get(default_device().type, "cpu"))


def report(arguments: argparse.Namespace) -> int:
    """Fit what is stale, tell, and write the report."""
    from fmreport.merge import write_outcome
    from fmreport.runner import run_profile, sole_run, summary

    profile = profile_of(arguments)
    if arguments.seeds:
        profile = profile.with_seeds(arguments.seeds)
    for model in arguments.models:
        if model not in profile.models:
            problem = f"not one of {profile.name}'s models; {nearest(model, profile.models)}"
            raise ParameterError("--models", model, problem)
    with sole_run(profile, arguments.wait):
        outcome = run_profile(
            profile,
            models=arguments.models,
            retime=arguments.retime,
            scheduler=arguments.scheduler or "",
        )
        pages = write_outcome(outcome, arguments.paper)
    print(f"{summary(outcome)}: {', '.join(map(str, pages))}")
    return FAILED if outcome.failed else 0


def import_records(arguments: argparse.Namespace) -> int:
    """Take fresh records of a profile's jobs from another build folder."""
    from fmreport.runner import sole_run, take_records

    profile = profile_of(arguments)
    with sole_run(profile):
        taken, left = take_records(profile, arguments.folder)
    print(f"taken: {', '.join(taken) or 'none'}; still to fit: {', '.join(left) or 'none'}")
    return 0


def study(arguments: argparse.Namespace) -> int:
    """Run searches or ablations."""
    from fmreport.studies import fitted_here, run_study

    fits: Callable[..., Any] = fitted_here
    if arguments.scheduler:
        from fmreport import cluster

        fits = partial(cluster.fits, arguments.scheduler)
    for name in arguments.names:
        run_study(name, fits=fits)
    return 0


def publish(arguments: argparse.Namespace) -> int:
    """Copy a finished report into docs/."""
    from fmreport.publish import NotPublishable
    from fmreport.publish import publish as put_into_docs

    try:
        print(f"published: {put_into_docs(profile_of(arguments))}")
    except NotPublishable as error:
        print(f"not published: {error}", file=sys.stderr)
        return FAILED
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Classify picture files."""
    from fmreport.predict import predict as classify

    found = classify(profile_of(arguments), arguments.model, arguments.pictures)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        print(*found, sep="\n")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Tell every fault of a profile, its data and its models, without training."""
    from fmlib import fitting
    from fmlib.models.registry import build

    profile, faults = examine_profile(arguments.profile)
    unfit = set()
    try:
        data = profile.data()
        sizes = " + ".join(f"{len(part[1]):,}" for part in (data.train, data.validation, data.test))
        of = f"{len(data.class_names)} classes, {sizes} images"
        print(f"data: {profile.data_title}, {of} of {'x'.join(map(str, data.spec.image_shape))}")
    except ParameterError:  # is among the faults already
        data = None
    except DataError as error:
        data, faults = None, [*faults, *error.args]
    for name, parameters in profile.models.items():
        try:
            model = build(name, parameters)
            if data:
                fitting.check(model, data)
        except ParameterError:  # is among the faults already
            unfit.add(name)
        except FitError as error:
            faults.append(str(error))
            unfit.add(name)
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    if data:
        known = len(profile.models)
        print(f"models: {known - len(unfit)} of {known} can be fitted")
    return BAD_INPUT if faults else 0


def new_profile(arguments: argparse.Namespace) -> int:
    """Write a commented profile to start from; nothing is overwritten."""
    path = Path(arguments.name)
    if path.suffix != ".yaml":
        path = HERE.params / f"{arguments.name}.yaml"
    if path.exists():
        raise ProfileError(f"{path}: is there already")
    if not path.parent.is_dir():
        raise ProfileError(f"{path}: there is no such folder")
    template = Path(__file__).with_name("templates") / "profile.yaml"
    path.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    name = path.stem if path.parent == HERE.params else path
    print(f"written: {path}; try it: python -m fmreport check {name}, make report PROFILE={name}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Look at the surroundings, and tell what follows and what to do."""
    from fmreport.doctor import PROBLEM, examine

    problems = 0
    for finding in examine(HERE):
        print(finding)
        problems += finding.state == PROBLEM
    return BAD_INPUT if problems else 0


def lab(arguments: argparse.Namespace) -> int:
    """Open the notebooks in JupyterLab; never returns."""
    from fmreport.lab import open_lab

    open_lab(HERE, arguments.options)
    return 0


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 on, got {text!r}")
    return int(text)


def scheduler(text: str) -> str:
    """Where jobs are sent to: an address, or ``local:N``; needs the extra ``cluster``."""
    if not re.fullmatch(r"local:[1-9]\d*|\w+://\S+", text):
        raise argparse.ArgumentTypeError(f"wanted tcp://HOST:PORT or local:N, got {text!r}")
    if importlib.util.find_spec("distributed") is None:
        raise argparse.ArgumentTypeError("Dask is not installed: pip install '.[cluster]'")
    return text


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m fmreport",
        description="Compare image classifiers; the report of a profile is made by `report`.",
        epilog=f"example: python -m fmreport report --profile smoke. {STATUSES}",
    )
    top.add_argument("--version", action="version", version=f"fmreport {version('fmlib')}")
    commands = top.add_subparsers(required=True, metavar="command")
    known = ", ".join(available_profiles(HERE.params))
    profile_help = f"{known}; default: gpu where CUDA is usable, else cpu"

    def command(name: str, run: Callable[..., int], about: str, example: str) -> Callable[..., Any]:
        shown = f"example: python -m fmreport {name}{example}"
        added = commands.add_parser(name, help=about, description=about, epilog=shown)
        added.set_defaults(run=run)
        added.add_argument("--debug", action="store_true", help="show errors with their traceback")
        return added.add_argument

    about = "fit what is stale and write the report"
    _report_options(command("report", report, about, " --profile smoke"), profile_help)
    _options_of_others(command, profile_help)
    return top


def _options_of_others(command: Callable[..., Callable[..., Any]], profile_help: str) -> None:
    about = "copy records that fit from another build folder"
    option = command("import", import_records, about, " ../elsewhere/build/cpu --profile cpu")
    option("folder", type=Path, help="a build folder, or any folder that has records in it")
    option("--profile", help=profile_help)
    about = "run searches or ablations of params/studies"
    option = command("study", study, about, " cnn-ablation mlp-search")
    option("names", nargs="+", help="for example cnn-ablation")
    option("--scheduler", type=scheduler, help=SCHEDULER_HELP)
    about = "copy a finished report into docs/"
    option = command("publish", publish, about, " --profile cpu")
    option("--profile", help="cpu or gpu; default as for report")
    about = "classify picture files with a fitted model"
    option = command("predict", predict, about, " --profile cpu --model cnn shirt.jpg")
    option("--profile", help=profile_help)
    option("--model", required=True, help="for example cnn")
    option("--json", action="store_true", help="all probabilities, as JSON")
    option("pictures", nargs="+", type=Path, metavar="picture")
    about = "list every fault of a profile, without training"
    option = command("check", check, about, " mine.yaml")
    option("profile", help="its name, or the path of its file")
    about = "write a commented profile to start from"
    option = command("new-profile", new_profile, about, " mine.yaml")
    option("name", help="a name in params/, or a path that ends in .yaml")
    command("doctor", doctor, "check this machine and say what to do", "")
    option = command("lab", lab, "open the notebooks in JupyterLab", " -- --no-browser")
    option("options", nargs="*", help="behind --: JupyterLab's own options")


def _report_options(option: Callable[..., Any], profile_help: str) -> None:
    option("--profile", help=profile_help)
    option("--seeds", type=positive, help="number of seeds; the profile's own come first")
    option("--paper", choices=PAPERS, default="a4", help="the PDF's paper")
    alone = "fit these alone; the report has all that is there"
    option("--models", nargs="+", default=[], help=alone)
    option("--retime", action="store_true", help="fit again what was timed beside other work")
    option("--wait", action="store_true", help="wait for another run of the profile to end")
    option("--scheduler", type=scheduler, help=SCHEDULER_HELP)


def main() -> int:
    """Run a command; what is wrong with its input is told in a line."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] - shows at once in pipes
    for ending in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(ending, _stop)
    arguments = parser().parse_args()
    try:
        return arguments.run(arguments)
    except (FitError, ProfileError, ParameterError, DataError, ResultError, OSError) as error:
        if arguments.debug:
            raise
        told = _surroundings(error) if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        return FAILED if isinstance(error, FitError) else BAD_INPUT
    except KeyboardInterrupt as error:
        name = f" by {error}" if str(error) else ""
        print(
            f"stopped{name}; what was finished is kept, and the next run goes on", file=sys.stderr
        )
        return STOPPED


def _stop(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt(signal.Signals(number).name)


def _surroundings(error: OSError) -> str:
    """What is wrong with the disk or a folder, where, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    todo = {
        errno.ENOSPC: "; free some space and run it again, what was finished is kept",
        errno.EROFS: "; it has to be writable",
        errno.EACCES: "; it has to be readable and writable",
        errno.ENOTDIR: "; a file is where a folder should be",
        errno.EEXIST: "; a file is where a folder should be",
        errno.ENAMETOOLONG: "; choose a shorter name",
    }
    return f"{where}{error.strerror or error}{todo.get(error.errno or 0, '')}"


if __name__ == "__main__":
    sys.exit(main())
