"""What was decided: the plan, and what could not be pruned."""

import json
from xml.etree.ElementTree import Element

from keras_iplt.graph.channels import Graph
from keras_iplt.planning.plan import Plan
from keras_iplt.reporting.page import add, add_row, gauge, table

__all__ = ["add_frozen", "add_plan"]


def add_plan(main: Element, plan: Plan) -> None:
    """What the plan was asked for, what goes of each group, and all of it as JSON."""
    section = add(main, "section")
    add(section, "h2", "The plan")
    add(
        section, "p", f"It removes {plan.fpr:.1%} of the filters that were to be counted and "
        f"{plan.ppr:.1%} of the parameters.",
    )  # fmt: skip
    body = table(section, "What it was asked for", ["option", "value"], left=2)
    for name, value in plan.options.items():
        said = json.dumps(value) if isinstance(value, (dict, list, tuple)) else str(value)
        add_row(body, name, [said], left=1)
    _add_groups(section, plan)
    hidden = add(section, "details")
    add(hidden, "summary", "The plan as JSON")
    add(
        hidden, "p", "Save it as a file and carry it out on the same architecture: "
        "keras_iplt.rewrite(model, keras_iplt.Plan.from_json(text))", class_="aside",
    )  # fmt: skip
    add(hidden, "pre", plan.to_json())


def _add_groups(section: Element, plan: Plan) -> None:
    if plan.graph is None:
        counts = ", ".join(str(len(gone)) for gone in plan.removed)
        add(
            section, "p", "The plan is not bound to a model, so the sizes of its groups are not "
            f"known. Channels that go, per group: {counts}.",
        )  # fmt: skip
        return
    heads = ["created by", "group", "channels", "gone"]
    body = table(section, "Channels that go together, in the order of the graph", heads)
    for group, gone in zip(plan.graph.groups, plan.removed, strict=True):
        names = ", ".join(dict.fromkeys(p.path for p in group.producers))
        left = group.size - len(gone)
        said = f"{group.size} → {left}" if gone else str(group.size)
        row = add_row(body, names, [str(group.index)])
        gauge(add(row, "td", said, class_="number"), left / group.size)
        add(row, "td", f"{len(gone) / group.size:.1%}", class_="number")


def add_frozen(main: Element, graph: Graph) -> None:
    """What stays whatever is asked for, and why."""
    section = add(main, "section")
    add(section, "h2", "What was frozen, and why")
    if not graph.frozen:
        add(section, "p", "Nothing: every filter of the model may be pruned.")
        return
    body = table(section, "Filters that cannot go", ["layer", "reason", "filters"], left=2)
    for frozen in graph.frozen:
        add_row(body, frozen.operation, [frozen.reason, str(frozen.channels)], left=1)
