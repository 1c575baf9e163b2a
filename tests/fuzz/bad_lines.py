"""Command lines that mean nothing: commands, options, words, names and folders."""

from __future__ import annotations

import random
from collections.abc import Callable

from verdict import Case

Draw = random.Random
COMMANDS = ("run", "resume", "compare", "study", "tune", "plan", "diagnose", "fsck", "export", "config")
JUNK = ("", " ", "x", "-1", "0", "1.5", "1_0", "nan", "inf", "1e400", "0x2", "1:30", "null", "true", "[1]",
        "{a: 1}", "\u00e9",
        "a\nb", "\x1b[31m", "9" * 120, "auto auto", "\udc80", "--", "@file", "$HOME", "*")  # fmt: skip
ODD_NAMES = ("../up", "../../etc/x", "/abs", "a/b", ".hidden", "-x", "a b", "a\\b", "x" * 65, "",
             "caf\u00e9", "\u202etxt", "a\nb", "con:",
             "a\x00b", "~", "a*b", "$(ls)", "`ls`", "a;b", "\udc80", ".", "..", "a\x7f")  # fmt: skip


def bad_lines(draw: Draw) -> Case:
    """One of them."""
    return draw.choice(_WAYS)(draw)


def _shown(text: str) -> str:
    """What a line can say of a text: its printable ASCII start."""
    return text.encode("unicode_escape").decode("ascii")[:20]


def _command(draw: Draw) -> Case:
    known = draw.choice(COMMANDS)
    at = draw.randrange(len(known))
    wrong = draw.choice(
        [
            known[:at] + "q" + known[at:],
            known.upper(),
            f"{known}-x",
            f"nonsense{draw.randint(0, 999)}",
            "seed=1",
        ]
    )
    return Case("line: command", (wrong, *draw.choice([(), ("digits",), ("--json",)])), (wrong,))


def _option(draw: Draw) -> Case:
    command = draw.choice([*COMMANDS, ""])
    wrong = draw.choice(
        ["--nope", "--jsn", "-z", "--out", "--seedz=1", "--wrkers", f"--x{draw.randint(0, 999)}", "--no-json"]
    )
    return Case(
        "line: option",
        tuple(w for w in (command, "digits" if command else "", wrong) if w),
        (wrong.partition("=")[0],),
    )


def _option_without_value(draw: Draw) -> Case:
    command = draw.choice(["run", "compare", "study", "plan"])
    option = draw.choice(["--output"] if command == "plan" else ["--executor", "--workers", "--output"])
    return Case("line: no value", (command, "digits", option), (option,))


def _missing_argument(draw: Draw) -> Case:
    command, needed = draw.choice(
        [("run", "no experiment"), ("compare", "no experiment"), ("plan", "no experiment"),
         ("config", "no experiment"),
         ("study", "no study"), ("tune", "SEARCH"), ("resume", "DIR"), ("fsck", "DIR"), ("diagnose", "DIR"),
         ("export", "DIR")]
    )  # fmt: skip
    options = draw.choice([(), ("--json",)]) if command not in ("config", "export") else ()
    return Case("line: missing argument", (command, *options), (needed, "--output", "-o"))


def _executor(draw: Draw) -> Case:
    text = draw.choice([*JUNK, "rey", "INLINE", "ray ", "spark"])
    command = draw.choice(["run", "compare"])
    return Case(
        "line: executor", (command, "digits", f"--executor={text}"), ("compute.executor", "--executor")
    )


def _workers(draw: Draw) -> Case:
    text = draw.choice([*JUNK, "-5", "4097", "5000", "Auto", "two"])
    command = draw.choice(["run", "compare"])
    return Case("line: workers", (command, "digits", f"--workers={text}"), ("compute.workers", "--workers"))


def _seeds(draw: Draw) -> Case:
    junk = [text for text in JUNK if text != "0"]
    text = draw.choice(
        [*junk, "1,1", "0,,1", "1;2", "0,x", "-1,2", "1.0", "\u0661", "18446744073709551616", "0," * 5]
    )
    words = draw.choice([("compare", "digits"), ("tune", "digits")])
    return Case("line: seeds", (*words, f"--seeds={text}"), ("--seeds", "seed"))


def _competitors(draw: Draw) -> Case:
    parts = ["fedbuf", "", ",", "fedbuff,,", "fedbuff,fedbuff", "fedbuff:server.lr", "fedbuff:server.lr=",
             "fedbuff:=1",
             "fedbuff:server.lr=0.1/0.2,fedrevive", "fedbuff:server.lr=1/x", "fedbuff:seed=1",
             "fedbuff:algorithm.name=fedavg",
             "fedbuff:task.clients=50,fedrevive", "fedbuff:stop.arrivals=7,fedrevive",
             "fedbuff:server.lr=-1", "fedbuff:name=x,afl_dw",
             "fedbuff:teacher_capacity=2", "fedrevive:teacher_capacity=101",
             "fedbuff:server.updates_per_version=21",
             "fedbuff:server.lr=[1", "fedbuff:server.lr={a: 1}", "fedbuff:server.lr=0.1/0.1",
             "fedbuff fedrevive", "*", "\udc80",
             "fedbuff:foo=1", "fedbuff:server.foo=1", "all", "fedbuff:server.lr=nan", "fedbuff:server.lr=1_0",
             "fedbuff:server.lr=" + "/".join(["0.1"] * 3), "fedbuff:server.lr=.nan,fedavg"]  # fmt: skip
    text = draw.choice([*parts, f"fedbuf{draw.randint(0, 99)}"])
    names = ("algorithm", "server.lr", "server", "stop", "task", "seed", "name", "foo", _shown(text))
    return Case("line: competitors", ("compare", "digits", "--seeds=0", f"--algorithms={text}"), names)


def _controls(draw: Draw) -> Case:
    parts = ["fedrevive:pool=nois", "fedbuf", "", "fedavg", "fedrevive:pool=noise/real", "fedrevive:seed=1",
             "fedrevive", ",",
             "fedrevive:teacher_capacity=0", "fedrevive:task.clients=50", "fedrevive:foo=1",
             "fedrevive:algorithm.name=fedbuff",
             "ca2fl:server.lr=1", "fedrevive:pool=", "fedrevive:pool", "fedrevive:teacher_capacity=101"]  # fmt: skip
    text = draw.choice([*parts, f"fedreviv{draw.randint(0, 99)}"])
    words = ("compare", "digits", "--seeds=0", "--algorithms=fedbuff,fedrevive", f"--controls={text}")
    return Case("line: controls", words, ("controls", "algorithm", "task.clients", "foo", _shown(text)))


def _trials(draw: Draw) -> Case:
    option = draw.choice(["--trials", "--concurrent"])
    text = draw.choice([text for text in JUNK if text != "null"])
    return Case("line: trials", ("tune", "digits", f"{option}={text}"), (option, "search.trials"))


def _override(draw: Draw) -> Case:
    words = ["a..b=3", "=3", "seed=", ".seed=1", "seed.=1", "server.lr:=1", "se ed=1", "s\u00e9ed=1", "seed",
             "server.lr==1", "-seed=1",
             "1seed=1", "seed=[", "stop.arrivals.x=1", "stop.=1", "seed=\udc80", "seed=\x00",
             f"{'x' * 999}=3", "seed = 1",
             "server.lr=0.1 0.2", "server[lr]=1", "server/lr=1", "concurrency=3", "lr=0.1", "alpha=0.3",
             "teacher_capacity=4"]  # fmt: skip
    command = draw.choice(["run", "plan", "config", "compare"])
    word = draw.choice(words)
    given = [f"client.local_steps={draw.randint(1, 999)}", word]
    return Case(
        "line: override",
        (command, "digits", *given),
        (_shown(word.partition("=")[0]), _shown(word), "option", "seed", "stop.arrivals"),
    )


def _source(draw: Draw) -> Case:
    missing = ["digts", "nowhere.yaml", "no/such/folder/x.yaml", "/proc/nothing.yaml", "./", "/", "../",
               "digits.yaml", "DIGITS",
               "a\x00.yaml", "\udc80.yaml", "https:/example.org/x.yaml", "digits/", "x" * 100, "*.yaml",
               "-.yml"]  # fmt: skip
    command = draw.choice(["run", "plan", "compare", "config", "study", "tune"])
    word = draw.choice(missing)
    word = word if draw.random() < 0.7 else f"{word.removesuffix('.yaml')}{draw.randint(0, 99)}.yaml"
    return Case(
        "line: source",
        (command, word),
        (_shown(word).rstrip("/").removeprefix("./"), "option", "''", "'.'", "'/'", "'..'"),
    )


def _two_sources(draw: Draw) -> Case:
    command = draw.choice(["run", "plan", "compare", "config", "study"])
    second = draw.choice(["demo", "digits", "x.yaml", f"word{draw.randint(0, 99)}"])
    return Case("line: two sources", (command, "digits", second), (second,))


def _reserved(draw: Draw) -> Case:
    word = draw.choice([f"seed={draw.randint(0, 999)}", "algorithm.name=fedbuff"])
    return Case("line: reserved", ("compare", "digits", word), (word.partition("=")[0],))


def _name(draw: Draw) -> Case:
    name = draw.choice(ODD_NAMES)
    quoted = '"' + "".join(f"\\U{ord(letter):08X}" for letter in name) + '"'
    words = ("run", "stop.arrivals=3", f"name={quoted}", f"seed={draw.randint(0, 99)}")
    return Case("line: name", words, ("name", "escape"))


def _setting_name(draw: Draw) -> Case:
    name = draw.choice([name for name in ODD_NAMES if "\udc80" not in name])
    quoted = '"' + "".join(f"\\U{ord(letter):08X}" for letter in name) + '"'
    text = f"name: s\nsettings:\n  {quoted}: digits seed={draw.randint(0, 99)}\nalgorithms: [fedbuff]\nseeds: [0]\n"
    return Case(
        "line: setting name", ("study", "s.yaml"), ("settings", "s.yaml"), (("s.yaml", text.encode()),)
    )


def _output(draw: Draw) -> Case:
    name = draw.choice(["", "a\x00b", "a\nb", "\x1b[31m", "\udc80", "a\x7fb", "a\rb", "x/\ty", "n" * 5000])
    seed = draw.randint(0, 99)
    if draw.random() < 0.5:
        quoted = '"' + "".join(f"\\U{ord(letter):08X}" for letter in name) + '"'
        return Case(
            "line: output",
            ("run", "stop.arrivals=3", f"output={quoted}", f"seed={seed}"),
            ("output", "escape"),
        )
    command = draw.choice(
        [
            ("run", "digits", f"seed={seed}"),
            ("compare", "digits"),
            ("tune", "digits"),
            ("study", "failure_modes"),
        ]
    )
    return Case("line: output", (*command, f"--output={name}"), ("output",))


def _no_such_folder(draw: Draw) -> Case:
    command = draw.choice(["resume", "fsck", "diagnose", "export"])
    folder = draw.choice(
        ["nowhere", "no/such", "a\x00b", "\udc80", "x" * 300, "", f"n{draw.randint(0, 999)}", "a\nb", "."]
    )
    more = ("-o", "x.parquet") if command == "export" else ()
    return Case("line: folder", (command, folder, *more), (_shown(folder) or ".", "DIR", "n & manifest"))


_WAYS: tuple[Callable[[Draw], Case], ...] = (
    *(
        _command,
        _option,
        _option_without_value,
        _missing_argument,
        _executor,
        _workers,
        _seeds,
        _competitors,
        _controls,
    ),
    *(
        _trials,
        _override,
        _override,
        _source,
        _two_sources,
        _reserved,
        _name,
        _setting_name,
        _output,
        _no_such_folder,
    ),
)
