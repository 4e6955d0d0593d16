//! Which instance is which machine of the fake. The provider is not asked.

use immutable_azure_fake::Fake;
use immutable_core::model::InstanceId;
use serde_json::Value;

/// The instance that a machine is: by its name, and where that may become another one's, by the beginning of what no other machine has.
pub(crate) fn instance(machine: &Value) -> InstanceId {
    let name = machine["name"].as_str().unwrap().to_ascii_lowercase();
    let is_numbered = machine["instanceId"].is_string();
    let suffix = || format!("-{}", &machine["properties"]["vmId"].as_str().unwrap()[..8]);
    (name + &is_numbered.then(suffix).unwrap_or_default()).parse().unwrap()
}

/// The machines that there are, by their ids.
pub(crate) fn machines(fake: &Fake) -> impl Iterator<Item = (String, Value)> {
    let all = fake.list("Microsoft.Compute/").into_iter();
    all.filter(|(id, _)| id.rsplit('/').nth(1) == Some("virtualmachines"))
}

/// Where the machine of an instance is; where none is, if it is gone.
pub(crate) fn machine(fake: &Fake, instance: &InstanceId) -> String {
    let found = machines(fake).find(|(_, machine)| self::instance(machine) == *instance);
    found.map_or_else(|| format!("Microsoft.Compute/virtualMachines/{instance}"), |(id, _)| id)
}
