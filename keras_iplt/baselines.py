"""The methods that the IPLT paper compares with, as callbacks for `model.fit`.

    pmt         train, prune once, fine-tune                        all layers together     l2
    one_shot    the same as Li et al. do it                         the same in each layer  l1
    soft        what is zeroed after each epoch goes on learning    the same in each layer  l2
    iplt_soft   the same, by rising ratios, in the first epochs     the same in each layer  l2

Each is an `IPLTCallback` with the settings of its paper, and takes all other arguments of it. As in
the papers, it is the filters of convolutions that are pruned and counted. `full_width` gives a
residual network the layout that soft filter pruning assumes.

The papers: Li et al. (Nanjing), "A novel thought of pruning algorithms: pruning based on less
training"; Li et al. (Maryland), "Pruning filters for efficient ConvNets", ICLR 2017; He et al.,
"Soft filter pruning for accelerating deep convolutional neural networks", IJCAI 2018.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from keras_iplt import schedules
from keras_iplt.callbacks import IPLTCallback
from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.planning.options import Scope
from keras_iplt.support.arguments import Count, Epoch, Share, checked, one_of
from keras_iplt.surgery.full_width import full_width

__all__ = ["full_width", "iplt_soft", "one_shot", "pmt", "soft"]

Norm: TypeAlias = Annotated[str, one_of("l1", "l2")]


@checked
def pmt(
    target: Share,
    after: Epoch,
    criterion: AnyCriterion = DEFAULT,
    scope: Scope = "global",
    **options: Any,
) -> IPLTCallback:
    """Pruning based on much training, what IPLT is measured against.

    The model is trained, pruned once, and what is left is fine-tuned.

    Args:
        target: the share of the filters that goes.
        after: after how many epochs; the rest of `fit` is the fine-tuning.
        criterion, scope: which filters go, by default as with `keras_iplt.IPLTCallback`; the paper
            takes those of the smallest `"l2"` norm.
        **options: every other argument of `keras_iplt.IPLTCallback`.

    Returns:
        An `IPLTCallback`.

    Example: 60 % of the filters go when 200 of 300 epochs are over.

    >>> callback = pmt(0.6, after=200)
    >>> callback.schedule
    OneShot(target=0.6, epoch=200)
    """
    return _callback(schedules.OneShot(target, after), criterion, scope, options)


@checked
def one_shot(target: Share, after: Epoch, norm: Norm = "l1", **options: Any) -> IPLTCallback:
    """The smallest filters go when training is over, all at once, and what is left trains again.

    Li et al., "Pruning filters for efficient ConvNets": those of the smallest norm, from each
    layer.

    The paper chooses the share of each layer by how sensitive it is, and leaves some out: that is
    what `per_layer` and `ignore` are for.

    Args:
        target: the share of the filters that goes from each layer.
        after: after how many epochs; the rest of `fit` is the retraining.
        norm: `"l1"` or `"l2"`; the paper finds no difference.
        **options: every other argument of `keras_iplt.IPLTCallback`.

    Returns:
        An `IPLTCallback`.

    Example:

    >>> callback = one_shot(0.5, after=160, ignore=["conv1"])
    >>> callback.options.criterion.name, callback.options.scope
    ('l1', 'layer')
    """
    return _callback(schedules.OneShot(target, after), norm, "layer", options)


@checked
def soft(
    target: Share, criterion: AnyCriterion = "l2", scope: Scope = "layer", **options: Any
) -> IPLTCallback:
    """Soft filter pruning: what is set to zero goes on learning, and may come back (He et al.).

    After every epoch, from the first, the smallest filters of each layer are set to zero. Those
    that are smallest after the last epoch go for good.

    For a residual network, see `full_width`.

    Args:
        target: the share of the filters, the same at every epoch.
        criterion, scope: which filters: the smallest of each layer, by default.
        **options: every other argument of `keras_iplt.IPLTCallback`.

    Returns:
        An `IPLTCallback`.

    Example:

    >>> callback = soft(0.3)
    >>> callback.mode, callback.schedule
    ('soft', OneShot(target=0.3, epoch=0))
    """
    return _callback(schedules.OneShot(target, 0), criterion, scope, {**options, "mode": "soft"})


@checked
def iplt_soft(
    ratios: Any = (0.1, 0.2, 0.3),
    every: Count = 5,
    criterion: AnyCriterion = "l2",
    scope: Scope = "layer",
    **options: Any,
) -> IPLTCallback:
    """Soft filter pruning as the IPLT paper modifies it: by rising ratios, and early only.

    A list of ratios rises in the first dozens of epochs. Then the model becomes smaller and trains
    on.

    After every epoch the smallest filters of each layer are set to zero and go on learning, as many
    as the current ratio says. Those that are smallest `every` epochs after the last ratio became
    due go for good.

    Args:
        ratios: shares of the filters that do not decrease.
        every: after how many epochs the next one is due (the paper's k).
        criterion, scope: which filters: the smallest of each layer, by default.
        **options: every other argument of `keras_iplt.IPLTCallback`; `soft_epochs` to go on for
            longer, or not as long, before the model becomes smaller.

    Returns:
        An `IPLTCallback`.

    Example: the first zeros after 5 epochs, and after 20 the model is smaller.

    >>> callback = iplt_soft([0.1, 0.2, 0.3], every=5)
    >>> callback.schedule, callback.soft_epochs
    (Ratios(ratios=[0.1, 0.2, 0.3], every=5), 20)
    """
    schedule = schedules.Ratios(ratios, every)
    softly = {"soft_epochs": schedule.end + every, **options, "mode": "soft"}
    return _callback(schedule, criterion, scope, softly)


def _callback(
    schedule: Any, criterion: AnyCriterion, scope: Scope, options: dict[str, Any]
) -> IPLTCallback:
    options = {"convolutions_only": True, **options}
    return IPLTCallback(schedule, criterion=criterion, scope=scope, **options)
