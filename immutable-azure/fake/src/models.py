"""What the vendor's models do not understand of bodies that were sent and answered.

Standard input: a JSON list of exchanges `[operation, status, request, answer]`. Standard output: a JSON list of what is wrong.
Each body is read by the model of its operation, field by field, and written again: a field that the model does not know, one
whose value it would change or lose, and one that it says is required and that is missing, is wrong.
"""

import datetime
import enum
import json
import sys
import types
import typing

from azure.mgmt.compute import models as compute
from azure.mgmt.compute._utils.model_base import SdkJSONEncoder, _deserialize
from azure.mgmt.network import models as network
from azure.mgmt.trafficmanager import models as traffic_manager

COMPUTE, NETWORK = "Microsoft.Compute/", "Microsoft.Network/"
SETS = COMPUTE + "virtualMachineScaleSets"
MEMBERS = SETS + "/virtualMachines"
MACHINES = COMPUTE + "virtualMachines"



def resource(kind, model, update=None):
    """The operations of a resource that is read and written as a whole."""
    written = {f"PATCH {kind}": (update, model)} if update else {}
    return {
        f"GET {kind}": (None, model),
        f"LIST {kind}": (None, model),
        f"PUT {kind}": (model, model),
        f"DELETE {kind}": (None, None),
        **written,
    }


# The models of the request and the answer of an operation; for a list, that of its items.
OPERATIONS = {
    f"GET {SETS}": (None, compute.VirtualMachineScaleSet),
    f"LIST {SETS}": (None, compute.VirtualMachineScaleSet),
    f"PUT {SETS}": (compute.VirtualMachineScaleSet, compute.VirtualMachineScaleSet),
    f"PATCH {SETS}": (compute.VirtualMachineScaleSetUpdate, compute.VirtualMachineScaleSet),
    f"DELETE {SETS}": (None, None),
    f"GET {SETS}/instanceView": (None, compute.VirtualMachineScaleSetInstanceView),
    f"POST {SETS}/delete": (compute.VirtualMachineScaleSetVMInstanceRequiredIDs, None),
    f"GET {MEMBERS}": (None, compute.VirtualMachineScaleSetVM),
    f"LIST {MEMBERS}": (None, compute.VirtualMachineScaleSetVM),
    f"DELETE {MEMBERS}": (None, None),
    f"GET {MEMBERS}/instanceView": (None, compute.VirtualMachineScaleSetVMInstanceView),
    f"GET {MACHINES}": (None, compute.VirtualMachine),
    f"LIST {MACHINES}": (None, compute.VirtualMachine),
    f"DELETE {MACHINES}": (None, None),
    f"GET {MACHINES}/instanceView": (None, compute.VirtualMachineInstanceView),
    f"PUT {MACHINES}": (compute.VirtualMachine, compute.VirtualMachine),
    f"PATCH {MACHINES}": (compute.VirtualMachineUpdate, compute.VirtualMachine),
    **{f"POST {MACHINES}/{action}": (None, None) for action in ("deallocate", "generalize", "powerOff", "start")},
    **resource(f"{MACHINES}/runCommands", compute.VirtualMachineRunCommand, compute.VirtualMachineRunCommandUpdate),
    f"GET {COMPUTE}disks": (None, compute.Disk),
    f"LIST {COMPUTE}disks": (None, compute.Disk),
    f"DELETE {COMPUTE}disks": (None, None),
    **resource(f"{COMPUTE}galleries", compute.Gallery, compute.GalleryUpdate),
    **resource(f"{COMPUTE}galleries/images", compute.GalleryImage, compute.GalleryImageUpdate),
    **resource(f"{COMPUTE}galleries/images/versions", compute.GalleryImageVersion, compute.GalleryImageVersionUpdate),
    **resource(f"{NETWORK}applicationGateways", network.ApplicationGateway, network.TagsObject),
    f"POST {NETWORK}applicationGateways/backendhealth": (None, None),
    f"POST {NETWORK}applicationGateways/getBackendHealthOnDemand": (network.ApplicationGatewayOnDemandProbe, None),
    **resource(f"{NETWORK}loadBalancers", network.LoadBalancer, network.TagsObject),
    **resource(f"{NETWORK}loadBalancers/backendAddressPools", network.BackendAddressPool),
    f"POST {NETWORK}loadBalancers/loadBalancingRules/health": (None, None),
    **resource(f"{NETWORK}trafficManagerProfiles", traffic_manager.Profile, traffic_manager.Profile),
    **{
        operation: models
        for kind in ("azureEndpoints", "externalEndpoints", "nestedEndpoints")
        for operation, models in resource(
            f"{NETWORK}trafficManagerProfiles/{kind}", traffic_manager.Endpoint, traffic_manager.Endpoint
        ).items()
    },
    f"LIST {SETS}/networkInterfaces": (None, network.NetworkInterface),
    f"LIST {MEMBERS}/networkInterfaces": (None, network.NetworkInterface),
    f"GET {NETWORK}networkInterfaces": (None, network.NetworkInterface),
    f"LIST {NETWORK}networkInterfaces": (None, network.NetworkInterface),
}

# Operations have no model. What Resource Manager says of them:
# https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
STATUS = {"id", "name", "status", "startTime", "endTime", "percentComplete", "properties", "error"}

# What Azure Monitor says: https://learn.microsoft.com/rest/api/monitor/metrics/list
METRICS = {"cost", "timespan", "interval", "namespace", "resourceregion", "value"}


def hints(model):
    """The types of a model's fields, by their names in Python."""
    found = {}
    for base in reversed(model.__mro__):
        module = sys.modules[base.__module__]
        package = sys.modules.get(base.__module__.rsplit(".", 1)[0])
        names = {**vars(module), "_models": package}
        for name, hint in vars(base).get("__annotations__", {}).items():
            found[name] = eval(hint, names) if isinstance(hint, str) else hint  # Written by the vendor's generator.
    return {name: resolved(hint, model) for name, hint in found.items()}


def resolved(hint, model):
    """A type in which names that are given as text are looked up."""
    if isinstance(hint, typing.ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        return getattr(sys.modules[model.__module__.rsplit(".", 1)[0]], hint.rsplit(".", 1)[-1])
    if typing.get_origin(hint) is typing.Union or isinstance(hint, types.UnionType):
        return typing.Union[tuple(resolved(one, model) for one in typing.get_args(hint))]
    if typing.get_origin(hint) in (list, dict):
        return typing.get_origin(hint)[tuple(resolved(one, model) for one in typing.get_args(hint))]
    return hint


def choices(hint):
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Union else (hint,)


def is_model(hint):
    # Each of the packages has a class of its own that its models are made of.
    return isinstance(hint, type) and any(base.__name__ == "Model" for base in hint.__mro__)


def wrong(hint, value, place):
    """What of a value is not of a type, with where it is."""
    kinds = choices(hint)
    if value is None:
        if type(None) not in kinds and typing.Any not in kinds:
            yield f"{place} may not be null"
        return
    for kind in kinds:
        if is_model(kind):
            yield from wrong_fields(kind, value, place)
            return
        if typing.get_origin(kind) is list:
            if not isinstance(value, list):
                yield f"{place} is no list"
                return
            for index, item in enumerate(value):
                yield from wrong(typing.get_args(kind)[0], item, f"{place}[{index}]")
            return
        if typing.get_origin(kind) is dict:
            if not isinstance(value, dict):
                yield f"{place} is no map"
                return
            for name, item in value.items():
                yield from wrong(typing.get_args(kind)[1], item, f"{place}.{name}")
            return
    if not any(fits(kind, value) for kind in kinds):
        yield f"{place} is {value!r}, which is none of {kinds}"


def fits(kind, value):
    if kind is typing.Any:
        return True
    if kind is datetime.datetime:
        return isinstance(value, str) and is_time(value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value in [one.value for one in kind]
    if kind in (str, datetime.timedelta):
        return isinstance(value, str)
    return isinstance(kind, type) and type(value) is kind


def is_time(text):
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def wrong_fields(model, value, place):
    if not isinstance(value, dict):
        yield f"{place} is no object"
        return
    # Reading it makes an object of the right kind, if there are several.
    read = _deserialize(model, value)
    names = {field._rest_name: name for name, field in type(read)._attr_to_rest_field.items()}
    known = hints(type(read))
    for name, field in value.items():
        if name in names:
            yield from wrong(known[names[name]], field, f"{place}.{name}")
        else:
            yield f"{place}.{name} is unknown to {model.__name__}"
    for name, own in names.items():
        if name not in value and type(None) not in choices(known[own]):
            yield f"{place}.{name} is required by {model.__name__}"
    for own in names.values():
        getattr(read, own)
    written = json.loads(json.dumps(read, cls=SdkJSONEncoder))
    if same_times(written) != same_times(value):
        yield f"{place} is lost in part by {model.__name__}: {written}"


def same_times(value):
    """A value with its times in one form of the several that mean the same."""
    if isinstance(value, dict):
        return {name: same_times(field) for name, field in value.items()}
    if isinstance(value, list):
        return [same_times(item) for item in value]
    if isinstance(value, str) and len(value) >= 19 and is_time(value):
        return datetime.datetime.fromisoformat(value).timestamp()
    return value


def wrong_exchange(operation, status, request, answer):
    if operation.endswith(("/locations/operations", "/locations/operationResults")):
        if status < 400 and answer is not None and "status" in answer:
            yield from (f"answer.{name} is no part of an operation" for name in answer.keys() - STATUS)
            yield from wrong(typing.Optional[compute.ApiError], answer.get("error"), "answer.error")
        elif status < 400 and answer is not None:
            # The results of the only operations that have one: of a rule of a load balancer, of one pool of a gateway, of all of them.
            if "loadBalancerBackendAddresses" in answer:
                health = network.LoadBalancerHealthPerRule
            elif "backendHealthHttpSettings" in answer:
                health = network.ApplicationGatewayBackendHealthOnDemand
            else:
                health = network.ApplicationGatewayBackendHealth
            yield from wrong_fields(health, answer, "answer")
        return
    if operation.endswith("/Microsoft.Insights/metrics"):
        # The client for Azure Monitor is not installed: these are the fields of its REST API.
        if status < 400:
            yield from (f"answer.{name} is no part of metrics" for name in answer.keys() - METRICS)
        return
    if operation not in OPERATIONS:
        yield "there is no model for this operation"
        return
    asked, answered = OPERATIONS[operation]
    # What was refused may have been refused because it is wrong; a test may be about that.
    if status >= 400:
        yield from wrong_fields(compute.CloudError, answer, "answer")
        return
    if request is not None:
        if asked is None:
            yield "the request has no body"
        else:
            yield from wrong_fields(asked, request, "request")
    if answer is None:
        return
    if operation.startswith("LIST "):
        yield from (f"answer.{name} is no part of a list" for name in answer.keys() - {"value", "nextLink"})
        yield from wrong(list[answered], answer.get("value"), "answer.value")
    elif answered is None:
        yield "the answer has no body"
    else:
        yield from wrong_fields(answered, answer, "answer")


found = {}
for operation, status, request, answer in json.load(sys.stdin):
    for what in wrong_exchange(operation, status, request, answer):
        found[f"{operation}: {what}"] = None
json.dump(list(found), sys.stdout)
