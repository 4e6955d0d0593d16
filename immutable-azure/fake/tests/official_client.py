"""The vendor's own clients make, change, read and remove things; what they read is printed as JSON.

Arguments: the URL of the service, the subscription, the resource group, and the step.

The clients speak with Azure over HTTPS only: the policy that adds their token refuses any other URL before it asks the
credential for one. Here the service is plain HTTP on the loopback, so that policy is replaced, by the option that clients have
for it, with one that adds a fixed token.
"""

import json
import sys

from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.compute import ComputeManagementClient, models
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.network import models as net
from azure.mgmt.trafficmanager import TrafficManagerManagementClient
from azure.mgmt.trafficmanager import models as traffic

URL, SUBSCRIPTION, GROUP, STEP = sys.argv[1:]
SET = "official"


class FixedToken(SansIOHTTPPolicy):
    """Adds a token to whatever URL."""

    def on_request(self, request):
        request.http_request.headers["Authorization"] = "Bearer of-a-test"


class NoCredential:
    """What a client wants to be given, and does not ask."""

    def get_token(self, *scopes, **options):
        return AccessToken("of-a-test", 2**33)


# The interval counts where the service does not say when to ask again; a real operation takes longer than these.
OPTIONS = {"base_url": URL, "authentication_policy": FixedToken(), "polling_interval": 0.02}
compute = ComputeManagementClient(NoCredential(), SUBSCRIPTION, **OPTIONS)
network = NetworkManagementClient(NoCredential(), SUBSCRIPTION, **OPTIONS)
traffic_manager = TrafficManagerManagementClient(NoCredential(), SUBSCRIPTION, **OPTIONS)
sets = compute.virtual_machine_scale_sets


def profile(image):
    """The machines of a set."""
    address = models.VirtualMachineScaleSetIPConfiguration(
        name="main",
        subnet=models.ApiEntityReference(
            id=f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/net"
            "/subnets/main"
        ),
    )
    interface = models.VirtualMachineScaleSetNetworkConfiguration(
        name="main", primary=True, ip_configurations=[address]
    )
    # The extension has a type of its own, beside that of what it does.
    checks = models.VirtualMachineScaleSetExtensionProperties(
        publisher="Microsoft.ManagedServices",
        type="ApplicationHealthLinux",
        type_handler_version="1.0",
        auto_upgrade_minor_version=True,
        settings={"protocol": "http", "port": 8080, "requestPath": "/healthz"},
    )
    health = models.VirtualMachineScaleSetExtension(name="health", properties=checks)
    return models.VirtualMachineScaleSetVMProfile(
        storage_profile=models.VirtualMachineScaleSetStorageProfile(
            image_reference=models.ImageReference(id=image),
            os_disk=models.VirtualMachineScaleSetOSDisk(create_option="FromImage"),
        ),
        network_profile=models.VirtualMachineScaleSetNetworkProfile(
            network_api_version="2022-11-01", network_interface_configurations=[interface]
        ),
        extension_profile=models.VirtualMachineScaleSetExtensionProfile(extensions=[health]),
    )


def wanted(mode, capacity):
    image = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Compute/galleries/golden/images/web"
        "/versions/1.0.0"
    )
    made = models.VirtualMachineScaleSet(
        location="westeurope",
        sku=models.Sku(name="Standard_B2s", tier="Standard", capacity=capacity),
        zones=["1", "2", "3"],
        tags={"made-by": "official"},
        virtual_machine_profile=profile(image),
    )
    made.orchestration_mode = mode
    made.platform_fault_domain_count = 1
    made.upgrade_policy = models.UpgradePolicy(mode="Manual")
    return made


def shown(model):
    return model.as_dict()


def listed():
    """The members, read as virtual machines."""
    of_set = f"'virtualMachineScaleSet/id' eq '{sets.get(GROUP, SET).id}'"
    return list(compute.virtual_machines.list(GROUP, filter=of_set))


def flexible():
    """A set of machines with names: grown, and without two of them."""
    sets.begin_create_or_update(GROUP, SET, wanted("Flexible", 3)).result()
    sets.begin_update(GROUP, SET, models.VirtualMachineScaleSetUpdate(sku=models.Sku(capacity=5))).result()
    unwanted = [machine.name for machine in listed()[:2]]
    names = models.VirtualMachineScaleSetVMInstanceRequiredIDs(instance_ids=unwanted)
    sets.begin_delete_instances(GROUP, SET, names).result()
    machines = listed()
    interfaces = [
        network.network_interfaces.get(GROUP, machine.network_profile.network_interfaces[0].id.rsplit("/", 1)[1])
        for machine in machines
    ]
    return {
        "set": shown(sets.get(GROUP, SET)),
        "unwanted": unwanted,
        "machines": [shown(machine) for machine in machines],
        "named": [one.instance_id for one in compute.virtual_machine_scale_set_vms.list(GROUP, SET)],
        "addresses": [interface.ip_configurations[0].private_ip_address for interface in interfaces],
        "views": [shown(compute.virtual_machines.instance_view(GROUP, machine.name)) for machine in machines],
    }


def uniform():
    """A set of machines with numbers: grown, without one of them, and changed by who has seen it."""
    sets.begin_create_or_update(GROUP, SET, wanted("Uniform", 2)).result()
    before = sets.get(GROUP, SET)
    before.sku.capacity = 3
    seen = {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}
    sets.begin_create_or_update(GROUP, SET, before, **seen).result()
    stale = refused(lambda: sets.begin_create_or_update(GROUP, SET, before, **seen).result())
    members = compute.virtual_machine_scale_set_vms
    unwanted = [member.instance_id for member in members.list(GROUP, SET)][:1]
    names = models.VirtualMachineScaleSetVMInstanceRequiredIDs(instance_ids=unwanted)
    sets.begin_delete_instances(GROUP, SET, names).result()
    return {
        "stale": stale,
        "set": shown(sets.get(GROUP, SET)),
        "unwanted": unwanted,
        "members": [shown(member) for member in members.list(GROUP, SET)],
        "view": shown(sets.get_instance_view(GROUP, SET)),
        "interfaces": [
            interface.ip_configurations[0].private_ip_address
            for interface in network.network_interfaces.list_virtual_machine_scale_set_network_interfaces(GROUP, SET)
        ],
    }


def refused(write):
    """What a write is told that is to be refused."""
    try:
        write()
    except HttpResponseError as error:
        return {"status": error.status_code, "code": error.error.code}
    raise SystemExit("a write of who has not seen the resource was not refused")


def balance():
    """Addresses are turned on and off in a balancer that is there, and a gateway's rule leads to another pool."""
    balancer = network.load_balancers.get(GROUP, "web")
    blue, green = balancer.backend_address_pools
    blue.load_balancer_backend_addresses[0].admin_state = "Down"
    green.load_balancer_backend_addresses = [
        net.LoadBalancerBackendAddress(
            name="10.0.0.2",
            ip_address="10.0.0.2",
            virtual_network=blue.load_balancer_backend_addresses[0].virtual_network,
            admin_state="Up",
        )
    ]
    seen = {"headers": {"If-Match": balancer.etag}}
    network.load_balancers.begin_create_or_update(GROUP, "web", balancer, **seen).result()
    stale = [refused(lambda: network.load_balancers.begin_create_or_update(GROUP, "web", balancer, **seen).result())]

    gateway = network.application_gateways.get(GROUP, "web")
    blue, green = gateway.backend_address_pools
    gateway.request_routing_rules[0].backend_address_pool = net.SubResource(id=green.id)
    seen = {"headers": {"If-Match": gateway.etag}}
    network.application_gateways.begin_create_or_update(GROUP, "web", gateway, **seen).result()
    stale.append(
        refused(lambda: network.application_gateways.begin_create_or_update(GROUP, "web", gateway, **seen).result())
    )
    health = network.application_gateways.begin_backend_health(GROUP, "web").result()
    return {
        "stale": stale,
        "balancer": shown(network.load_balancers.get(GROUP, "web")),
        "gateway": shown(network.application_gateways.get(GROUP, "web")),
        "health": shown(health),
    }


def weigh():
    """A profile with two weighted endpoints, of which one is changed."""
    endpoints = [
        traffic.Endpoint(
            name=name,
            type="Microsoft.Network/trafficManagerProfiles/externalEndpoints",
            target=f"{name}.example.com",
            weight=weight,
        )
        for name, weight in [("blue", 1000), ("green", 1)]
    ]
    profile = traffic.Profile(
        location="global",
        traffic_routing_method="Weighted",
        dns_config=traffic.DnsConfig(relative_name="web", ttl=30),
        monitor_config=traffic.MonitorConfig(protocol="HTTP", port=80, path="/healthz"),
        endpoints=endpoints,
    )
    traffic_manager.profiles.create_or_update(GROUP, "web", profile)
    green = traffic.Endpoint(weight=500)
    traffic_manager.endpoints.update(GROUP, "web", "externalEndpoints", "green", green)
    return shown(traffic_manager.profiles.get(GROUP, "web"))


def build():
    """A machine is made into a version of an image, and deleted."""
    image = models.GalleryImage(
        location="westeurope",
        os_type="Linux",
        os_state="Generalized",
        hyper_v_generation="V2",
        identifier=models.GalleryImageIdentifier(publisher="immutable", offer="golden", sku="api"),
    )
    compute.galleries.begin_create_or_update(GROUP, "golden", models.Gallery(location="westeurope")).result()
    compute.gallery_images.begin_create_or_update(GROUP, "golden", "api", image).result()
    machines = compute.virtual_machines
    machine = models.VirtualMachine(
        location="westeurope",
        hardware_profile=models.HardwareProfile(vm_size="Standard_B2s"),
        storage_profile=models.StorageProfile(
            image_reference=models.ImageReference(publisher="debian", offer="debian-12", sku="12-gen2", version="latest"),
            os_disk=models.OSDisk(create_option="FromImage", delete_option="Delete"),
        ),
        network_profile=models.NetworkProfile(
            network_api_version="2022-11-01",
            network_interface_configurations=[
                models.VirtualMachineNetworkInterfaceConfiguration(
                    name="main",
                    primary=True,
                    delete_option="Delete",
                    ip_configurations=[models.VirtualMachineNetworkInterfaceIPConfiguration(name="main")],
                )
            ],
        ),
    )
    made = machines.begin_create_or_update(GROUP, "builder", machine).result()
    version = models.GalleryImageVersion(
        location="westeurope",
        tags={"fingerprint": "f"},
        storage_profile=models.GalleryImageVersionStorageProfile(
            source=models.GalleryArtifactVersionFullSource(virtual_machine_id=made.id)
        ),
        publishing_profile=models.GalleryImageVersionPublishingProfile(
            target_regions=[models.TargetRegion(name="West Europe", regional_replica_count=1)]
        ),
    )
    versions = compute.gallery_image_versions
    early = refused(
        lambda: versions.begin_create_or_update(GROUP, "golden", "api", "1.0.0", version).result()
    )
    script = models.VirtualMachineRunCommandScriptSource(script="echo well")
    command = models.VirtualMachineRunCommand(location="westeurope", source=script, timeout_in_seconds=600)
    commands = compute.virtual_machine_run_commands
    commands.begin_create_or_update(GROUP, "builder", "build", command).result()
    ran = commands.get_by_virtual_machine(GROUP, "builder", "build", expand="instanceView").instance_view
    machines.begin_deallocate(GROUP, "builder").result()
    machines.generalize(GROUP, "builder")
    versions.begin_create_or_update(GROUP, "golden", "api", "1.0.0", version).result()
    machines.begin_delete(GROUP, "builder").result()
    return {
        "ran": [ran.execution_state, ran.output],
        "early": early,
        "version": shown(versions.get(GROUP, "golden", "api", "1.0.0", expand="ReplicationStatus")),
        "left": [disk.name for disk in compute.disks.list_by_resource_group(GROUP)]
        + [interface.name for interface in network.network_interfaces.list(GROUP)],
    }


def fail():
    """What the clients make of operations that fail, of what is not there and of what is not right."""
    told = {}
    more = models.VirtualMachineScaleSetUpdate(sku=models.Sku(capacity=7))
    nobody = models.VirtualMachineScaleSetVMInstanceRequiredIDs(instance_ids=["nobody"])
    for name, attempt in {
        "operation": lambda: sets.begin_update(GROUP, SET, more).result(),
        "missing": lambda: sets.get(GROUP, "missing"),
        "nobody": lambda: sets.begin_delete_instances(GROUP, SET, nobody).result(),
        "elsewhere": lambda: sets.get("elsewhere", SET),
    }.items():
        try:
            attempt()
            raise SystemExit(f"{name} did not fail")
        except HttpResponseError as error:
            told[name] = {"status": error.status_code, "code": error.error.code}
    told["state"] = sets.get(GROUP, SET).provisioning_state
    return told


def remove():
    """Removes all that was made, and says what is left."""
    sets.begin_delete(GROUP, SET).result()
    return {
        "sets": [one.name for one in sets.list(GROUP)],
        "machines": [one.name for one in compute.virtual_machines.list(GROUP)],
        "interfaces": [one.name for one in network.network_interfaces.list(GROUP)],
    }


STEPS = (flexible, uniform, balance, weigh, build, fail, remove)
print(json.dumps({step.__name__: step for step in STEPS}[STEP]()))
