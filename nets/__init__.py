"""The nets of the push-pull paper and today's baselines, each with or without push-pull layers.

`create_net` builds one by name, `list_nets` names them, `@register` adds one; `python -m nets` prints the table.
`load_official` and `export_official` read and write the checkpoints of the paper's authors.
"""

from nets import alexnet, densenet, lenet, resnet, wide_resnet  # noqa: F401  (a family is registered by its import)
from nets.official import export_official, load_official
from nets.registry import create_net, list_nets, register

__all__ = ["create_net", "export_official", "list_nets", "load_official", "register"]
