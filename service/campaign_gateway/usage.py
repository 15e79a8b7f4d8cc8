"""What helps at the command line: examples below each command's `--help`, and completion in shells."""

from collections.abc import Iterator, Mapping

import click

PROGRAM = "campaign-gateway"
SHELLS = ("bash", "zsh", "fish")

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "serve": ("serve --config gateway.yaml", "serve   # settings from GATEWAY_CONFIG and GATEWAY__SECTION__KEY"),
    "check": ("check --config gateway.yaml", "check --config gateway.yaml --offline --json"),
    "doctor": ("doctor --config gateway.yaml", "doctor --config gateway.yaml --probe --json"),
    "schema": ("schema > schema.json",),
    "demo": ("demo", "demo --host 0.0.0.0 --port 8888"),
    "sandbox": (
        "sandbox --campaigns 200 --calls 30",
        "sandbox --with-gateway --json --seed 7   # for tests of your own",
    ),
    "plan": ("plan --campaigns 2000 --used 50% --change-rate 1/s", "plan --campaigns 500 --budget 300 --lag 5s"),
    "top": ("top", "top --admin http://127.0.0.1:9091 --once"),
    "key new": ("key new --client reporting", "key new --client reporting --expires 2027-02-01"),
    "completion": (
        "completion bash > ~/.local/share/bash-completion/completions/campaign-gateway",
        "completion zsh > ~/.zfunc/_campaign-gateway   # with fpath+=~/.zfunc before compinit in ~/.zshrc",
        "completion fish > ~/.config/fish/completions/campaign-gateway.fish",
    ),
}
"""What follows the program's name, by command."""


def add_examples(main: click.Group) -> None:
    """Puts the examples below the help of each command that has some."""
    for name, command in commands(main):
        if name in EXAMPLES:
            # The control character keeps lines as they are.
            command.epilog = "\n".join(["\b", "Examples:", *(f"  {PROGRAM} {line}" for line in EXAMPLES[name])])


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands that do something, with their names as they are typed."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def completion_script(main: click.Group, shell: str) -> str:
    """What `shell`, one of `SHELLS`, has to read to complete commands and options."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    made = get_completion_class(shell)
    assert made is not None, "click knows each of SHELLS"  # noqa: S101 - for the type checker
    return made(main, {}, PROGRAM, f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE").source()
