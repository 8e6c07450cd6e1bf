"""How a command refuses: one sentence and exit code 2."""

from click.testing import Result


def expect_refusal(result: Result, *words: str) -> None:
    """Exit code 2, one line of error, no traceback, and what it must say."""
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    message = result.output[result.output.index("Error:") :].strip()
    assert "\n" not in message, message
    for word in words:
        assert word in message, message
