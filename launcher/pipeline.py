"""What PIPELINE means: a folder on this computer, which is packed and sent along, or a git repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.contract import PipelineSource
from launcher.errors import UserError
from launcher.packing import Bundle, git_state, pack

_URL: Final = re.compile(r"^(https?|ssh|git|file)://[^\s/]*/\S+$|^[\w.-]+@[\w.-]+:\S+$")
_CREDENTIALS: Final = re.compile(r"https?:/+[^/?#]*@", re.IGNORECASE)
_OWNER_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$")
_MAIN_SCRIPT: Final = re.compile(r"""\bmainScript\s*=\s*(['"])(.+?)\1""")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline as it goes into the run spec, and its files where they are sent along."""

    source: PipelineSource
    label: str
    """As the operator named it."""
    bundle: Bundle | None = None


def resolve(argument: str, *, revision: str | None, main_script: str | None) -> Pipeline:
    """Understand PIPELINE. No network is asked: a repository is only checked for its form.

    Raises:
        UserError: neither a folder with a main script nor anything that looks like a repository; or a URL with
            credentials in it.
    """
    if _CREDENTIALS.match(argument):
        # not repeated here: what is printed ends up in logs
        raise UserError(
            "The pipeline's URL has a user name or a token in it; it would be kept in the run's files and logs, "
            "for all to read",
            hint="Give the URL without what stands before the @. Of a private repository, clone it and give the "
            "folder: it is sent along. A token that was typed is best replaced",
        )
    path = Path(argument).expanduser()
    if path.is_dir():
        return _from_folder(path, argument, revision, main_script)
    if path.is_file():
        raise UserError(
            f"{argument} is a file; PIPELINE is a folder or a git repository",
            hint=f"launcher run {path.parent} --main-script {path.name}",
        )
    if _URL.match(argument) or _names_repository(argument):
        return Pipeline(PipelineSource(repository=argument, revision=revision), argument)
    if _looks_like_path(argument):
        raise UserError(
            f"There is no folder {argument}",
            hint="Give a folder with a main.nf, a git URL, or owner/name of a repository",
        )
    raise UserError(
        f"{argument!r} is neither a folder nor a git repository",
        hint="Give a folder with a main.nf, a git URL such as https://github.com/OWNER/NAME, or OWNER/NAME",
    )


def _names_repository(argument: str) -> bool:
    """OWNER/NAME; not where a folder OWNER is here, for then a folder in it was meant, and its name mistyped."""
    return bool(_OWNER_NAME.match(argument)) and not Path(argument.partition("/")[0]).is_dir()


def _looks_like_path(argument: str) -> bool:
    return argument.startswith(("/", "~", ".")) or "/" in argument


def _from_folder(path: Path, label: str, revision: str | None, main_script: str | None) -> Pipeline:
    if revision is not None:
        raise UserError(
            f"--revision does not go with a folder: {label} is sent as it is",
            hint=f"Check the revision out first (git -C {label} checkout {revision}), or give the git URL",
        )
    folder = path.resolve()
    _check_main_script(folder, label, main_script)
    state = git_state(folder)
    bundle = pack(folder)
    source = PipelineSource(
        revision=state.commit, bundle_sha256=bundle.sha256, folder=folder.name, dirty=state.dirty
    )
    return Pipeline(source, label, bundle)


def _check_main_script(folder: Path, label: str, main_script: str | None) -> None:
    if main_script is not None:
        if not _inside(folder, main_script):
            raise UserError(
                f"The main script {main_script} is not in the folder {label}", hint=_scripts_there(folder)
            )
        return
    named = _manifest_script(folder)
    if named is not None and not _inside(folder, named):
        raise UserError(
            f"nextflow.config in {label} names the main script {named}, which is not there",
            hint=_scripts_there(folder),
        )
    if named is None and not (folder / "main.nf").is_file():
        raise UserError(
            f"The folder {label} has no main script: neither main.nf nor manifest.mainScript in nextflow.config",
            hint=_scripts_there(folder),
        )


def _inside(folder: Path, name: str) -> bool:
    path = (folder / name).resolve()
    return path.is_relative_to(folder) and path.is_file()


def _manifest_script(folder: Path) -> str | None:
    """`manifest.mainScript`, where nextflow.config says it as a plain string; Nextflow reads it for good."""
    try:
        text = (folder / "nextflow.config").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
    match = _MAIN_SCRIPT.search(code)
    return match[2] if match else None


def _scripts_there(folder: Path) -> str:
    scripts = sorted(path.name for path in folder.glob("*.nf"))[:5]
    if scripts:
        return f"There is {', '.join(scripts)}: name it with --main-script"
    return "Is it the right folder? No file there ends in .nf; name another with --main-script"
