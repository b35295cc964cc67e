"""The command line that all recipes share; it is read without Keras."""

import argparse
import contextlib
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["NETWORKS", "RecipeParser", "data_settings", "failing_in_a_line", "positive", "share"]

# The networks of the zoo, known here so that a mistyped one is found out at once.
NETWORKS = (
    *("lenet_300_100", "lenet_5", "lenet_5_1998", "mnist_cnn", "vgg16", "vgg16_hubens", "vgg19"),
    *("vgg_lite", "cifar_resnet", "resnet20", "resnet56", "resnet110", "googlenet"),
    *("inception_v2", "densenet40", "densenet121", "inception_v3", "mobilenet", "resnet50"),
    "vgg16_imagenet",
)


class RecipeParser(argparse.ArgumentParser):
    """A parser with the options of all recipes.

    Options have one value where they are not given, and another with --quick.

    Args:
        name, doc: the name of the recipe and its documentation.
        prog: what the command is called in its help.
        seeds, batch: how many seeds, and examples in a batch: in full, and with --quick.
    """

    def __init__(
        self, name: str, doc: str | None, prog: str | None, seeds: tuple[int, int],
        batch: tuple[int, int],
    ) -> None:  # fmt: skip
        super().__init__(
            prog=prog or f"python -m recipes.{name}", description=doc, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.set_defaults(recipe=name)
        self.quick: dict[str, Any] = {"eager": True}
        add: Any = self.add_argument
        add("--quick", action="store_true", help="everything, small, in seconds: see above")
        add("--out", type=pathlib.Path, metavar="DIR",
            help=f"where results go (saved_models/{name}; -quick)")  # fmt: skip
        self.option("--seeds", positive, *seeds, "how many seeds, from 0")
        self.option("--batch", positive, *batch, "examples in a batch")
        add = self.add_argument_group("data sets of TensorFlow Datasets").add_argument
        add("--data-dir", metavar="DIR", help="where they are prepared")
        add("--download", action="store_true", help="download what is not there")
        add = self.add_argument_group("the machine").add_argument
        add("--precision", choices=("float32", "mixed_float16", "mixed_bfloat16"),
            default="float32", help="dtypes (float32)")  # fmt: skip
        add("--xla", action="store_true", help="compile TensorFlow's steps with XLA")
        add("--eager", action="store_true",
            help="do not compile steps: faster for a handful of batches")  # fmt: skip
        add("--devices", type=positive, default=1, metavar="N", help="spread each batch over N "
            "devices (MirroredStrategy; DataParallel on JAX)")  # fmt: skip
        add("--workers", type=positive, default=1, metavar="N",
            help="runs at a time, by Ray: pip install 'keras-iplt[sweep]'")  # fmt: skip

    def option(
        self, flag: str, kind: Any, full: Any, quick: Any, what: str | None, **how: Any
    ) -> None:
        """Adds an option of a kind, its value where it is not given, and what it is.

        In full, and with --quick: None for the same.
        """
        name = self.add_argument(flag, type=kind, default=full, help=what, **how).dest
        if quick is not None:
            self.quick[name] = quick

    def data(self, prefix: str, what: str, full: Any, quick: tuple[Any, int, int]) -> None:
        """Adds options that say what to train on: --data, --take and --take-test.

        With a prefix they are --mnist, --mnist-take and --mnist-take-test, say. Data that are a
        list in full can be several; with --quick they come with numbers of examples.
        """
        add, stem = self.option, f"--{prefix}-" if prefix else "--"
        data, take, take_test = quick
        add(f"--{prefix or 'data'}", None, full, data, f"{what}: a name, an .npz file or a folder",
            metavar="DATA", nargs="+" if isinstance(full, list) else None)  # fmt: skip
        add(f"{stem}take", positive, None, take, "train on no more than N examples of it",
            metavar="N")  # fmt: skip
        add(f"{stem}take-test", positive, None, take_test, "test on no more than N", metavar="N")

    def parsed(self, arguments: Sequence[Any] | None) -> argparse.Namespace:
        """Reads a command, by default that of this process.

        Returns:
            The options, with the `command` itself among them.
        """
        arguments = sys.argv[1:] if arguments is None else [str(word) for word in arguments]
        options = self.parse_args(arguments)
        if options.quick:
            self.set_defaults(**self.quick)
            options = self.parse_args(arguments)
        if options.out is None:
            options.out = pathlib.Path(f"saved_models/{options.recipe}{'-quick' * options.quick}")
        options.command = shlex.join(["python", "-m", f"recipes.{options.recipe}", *arguments])
        return options


def data_settings(options: argparse.Namespace, prefix: str = "") -> dict[str, Any]:
    """What `RecipeParser.data` with the same prefix asked for, as settings of a run."""
    stem = f"{prefix}_" if prefix else ""
    return {
        "source": getattr(options, prefix or "data"), "take": getattr(options, f"{stem}take"),
        "take_test": getattr(options, f"{stem}take_test"),
    }  # fmt: skip


@contextlib.contextmanager
def failing_in_a_line(folder: pathlib.Path, goes_on: bool = True) -> Iterator[None]:
    """Within it, what goes wrong is said in one line.

    Args:
        folder: where results go.
        goes_on: whether the same command goes on after an interruption.
    """
    try:
        yield
    except OSError as error:
        raise SystemExit(f"error: {folder}: {error}") from error
    except KeyboardInterrupt:
        kept = f". What is done is kept in {folder}: the same command goes on" if goes_on else ""
        print(f"interrupted{kept}", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        # An error of the library, which is loaded by now, or a mistake in it.
        from keras_iplt.errors import PruningError

        if isinstance(error, PruningError):
            raise SystemExit(f"error: {error}") from error
        raise


def positive(text: str) -> int:
    """A positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, received: {text}")
    return number


def share(text: str) -> float:
    """A number between 0 and 1."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, received: {text}")
    return number
