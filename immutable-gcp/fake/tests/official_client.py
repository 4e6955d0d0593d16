"""Google's own client of Compute Engine makes, changes, reads and removes things; what it read is printed as JSON.

Arguments: the URL of the service, the project, the region, and the step.
"""

import json
import sys
import time

from google.api_core import exceptions
from google.api_core.future.polling import DEFAULT_POLLING
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

URL, PROJECT, REGION, STEP = sys.argv[1:]
GROUP = TEMPLATE = "official"
# A real operation takes seconds and is asked about after one; these take fractions of one.
POLLING = DEFAULT_POLLING.with_delay(initial=0.05, maximum=0.5).with_timeout(30)


def client(kind):
    return kind(credentials=AnonymousCredentials(), client_options={"api_endpoint": URL}, transport="rest")


OPERATIONS = {
    "global_operations": client(compute_v1.GlobalOperationsClient),
    "region_operations": client(compute_v1.RegionOperationsClient),
}


def waiting(kind):
    """A client whose operations are asked about here: by clients of their own, which would look for Google otherwise."""
    made = client(kind)
    made.transport._extended_operations_services.update(OPERATIONS)
    return made


templates = waiting(compute_v1.InstanceTemplatesClient)
groups = waiting(compute_v1.RegionInstanceGroupManagersClient)
instances = client(compute_v1.InstancesClient)
url_maps = waiting(compute_v1.UrlMapsClient)


def done(operation):
    operation.result(polling=POLLING)


def shown(message):
    """A message as the API writes it."""
    text = type(message).to_json(message, use_integers_for_enums=False, always_print_fields_with_no_presence=False)
    return json.loads(text)


def group():
    return groups.get(project=PROJECT, region=REGION, instance_group_manager=GROUP)


def members():
    return list(groups.list_managed_instances(project=PROJECT, region=REGION, instance_group_manager=GROUP))


def settled(size):
    """The members, as soon as there are so many that run."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = members()
        if len(found) == size and all(
            (member.instance_status, member.current_action) == ("RUNNING", "NONE") for member in found
        ):
            return found
        time.sleep(0.05)
    raise SystemExit(f"there are not {size} instances that run: {members()}")


def resize(size):
    done(groups.resize(project=PROJECT, region=REGION, instance_group_manager=GROUP, size=size))


def build():
    """A template, a group that grows and loses two instances, and the URL map's weights."""
    disk = compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(source_image="global/images/golden"),
    )
    properties = compute_v1.InstanceProperties(
        machine_type="e2-small",
        disks=[disk],
        labels={"made-by": "official"},
        network_interfaces=[compute_v1.NetworkInterface(network="global/networks/default")],
    )
    template = compute_v1.InstanceTemplate(name=TEMPLATE, properties=properties)
    done(templates.insert(project=PROJECT, instance_template_resource=template))
    made = templates.get(project=PROJECT, instance_template=TEMPLATE)
    manager = compute_v1.InstanceGroupManager(
        name=GROUP, base_instance_name=GROUP, instance_template=made.self_link, target_size=3
    )
    done(groups.insert(project=PROJECT, region=REGION, instance_group_manager_resource=manager))
    settled(3)
    resize(5)
    unwanted = [member.instance for member in settled(5)[:2]]
    request = compute_v1.RegionInstanceGroupManagersDeleteInstancesRequest(instances=unwanted)
    done(
        groups.delete_instances(
            project=PROJECT,
            region=REGION,
            instance_group_manager=GROUP,
            region_instance_group_managers_delete_instances_request_resource=request,
        )
    )
    left = settled(3)
    return {
        "template": shown(made),
        "group": shown(group()),
        "left": [member.instance for member in left],
        "unwanted": unwanted,
        "instances": [shown(instance) for instance in all_instances()],
        "url_map": shown(weigh()),
        "resizes": [shown(operation) for operation in resizes()],
    }


def all_instances():
    request = compute_v1.AggregatedListInstancesRequest(project=PROJECT, filter="labels.made-by=official")
    return [instance for _, scope in instances.aggregated_list(request=request) for instance in scope.instances]


def resizes():
    target = f".*/projects/{PROJECT}/regions/{REGION}/instanceGroupManagers/{GROUP}"
    request = compute_v1.ListRegionOperationsRequest(
        project=PROJECT, region=REGION, filter=f"targetLink eq {target}", order_by="creationTimestamp desc"
    )
    found = OPERATIONS["region_operations"].list(request=request)
    return [operation for operation in found if "resize" in operation.operation_type.lower()]


def weigh():
    """Patches weights into the URL map, and tries once more with what the map was like before."""
    before = url_maps.get(project=PROJECT, url_map="web")
    weights = [("blue", 900), ("green", 100)]
    services = [
        compute_v1.WeightedBackendService(backend_service=f"global/backendServices/{name}", weight=weight)
        for name, weight in weights
    ]
    action = compute_v1.HttpRouteAction(weighted_backend_services=services)
    patch = compute_v1.UrlMap(fingerprint=before.fingerprint, default_route_action=action)
    done(url_maps.patch(project=PROJECT, url_map="web", url_map_resource=patch))
    try:
        done(url_maps.patch(project=PROJECT, url_map="web", url_map_resource=patch))
    except exceptions.PreconditionFailed:
        return url_maps.get(project=PROJECT, url_map="web")
    raise SystemExit("a patch with a stale fingerprint was not refused")


def fail():
    """What the client makes of an operation that fails, and of things that are not there."""
    told = {}
    for name, attempt in {
        "operation": lambda: resize(7),
        "missing": lambda: templates.get(project=PROJECT, instance_template="missing"),
        "used": lambda: done(templates.delete(project=PROJECT, instance_template=TEMPLATE)),
    }.items():
        try:
            attempt()
        except exceptions.GoogleAPICallError as error:
            errors = [one if isinstance(one, dict) else shown(one) for one in error.errors]
            told[name] = {"status": error.code, "errors": errors}
    return told


def remove():
    """Removes all that was made, and says what is left."""
    done(groups.delete(project=PROJECT, region=REGION, instance_group_manager=GROUP))
    done(templates.delete(project=PROJECT, instance_template=TEMPLATE))
    return {
        "templates": [template.name for template in templates.list(project=PROJECT)],
        "groups": [manager.name for manager in groups.list(project=PROJECT, region=REGION)],
        "instances": [instance.name for instance in all_instances()],
    }


print(json.dumps({"build": build, "fail": fail, "remove": remove}[STEP]()))
