"""Entry points for torch.hub: every net under its name, and with a push-pull first layer under its name plus `_pp`.

torch.hub.load("<clone>", "resnet20_pp", source="local", alpha=1.0)
"""

from nets import create_net as _create_net
from nets import list_nets as _list_nets
from nets.registry import get_entry as _get_entry

dependencies = ["torch"]


def _entry_point(name, pushpull):
    def build(**options):
        return _create_net(name, **({"pushpull": pushpull} | options))

    build.__doc__ = f"{_get_entry(name).build.__doc__}\n\nOptions: those of nets.create_net."
    return build


for _name in _list_nets():
    globals()[_name] = _entry_point(_name, None)
    globals()[f"{_name}_pp"] = _entry_point(_name, "first")
