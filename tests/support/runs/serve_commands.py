"""`serve` as people type it: what it writes, and how it refuses."""

from pathlib import Path

from click.testing import CliRunner, Result

from serve.cli.commands import main


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def expect_refusal(result: Result, *words: str) -> None:
    """One sentence and exit code 2."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr
