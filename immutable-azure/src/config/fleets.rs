//! What scale sets are made with, beside where they are.

use std::time::Duration;

use serde::Serialize;

use super::{Config, ConfigBuilder, ConfigError, hold, names};

/// The least and the most time, in minutes, that a new instance has before a repair:
/// <https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-automatic-instance-repairs#grace-period>.
const GRACE: std::ops::RangeInclusive<u64> = 10..=90;

/// How a scale set has its machines. It is chosen as a fleet is made, and never changes.
///
/// <https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-orchestration-modes>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Orchestration {
    /// As virtual machines of their own, which is what Azure recommends.
    #[default]
    Flexible,
    /// As numbered parts of the set. One list tells all about them.
    ///
    /// Azure may [use a number again](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-instance-ids)
    /// when whoever had it is gone. So an instance is known by its number and the beginning of the `vmId` of its machine, and is listed from when Azure tells
    /// it. These names are longer: the name of the service has 34 characters at most, and 39 elsewhere.
    Uniform,
}

/// What the disks of instances are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Disk {
    pub(crate) gigabytes: Option<u32>,
    pub(crate) kind: Option<String>,
}

/// What is not so unless somebody asks for it by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Exceptions {
    pub(crate) public_addresses: bool,
}

/// What machines check of what they boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) enum Boot {
    /// Nothing, unless the image says so.
    #[default]
    Unverified,
    Trusted,
}

/// Whether sets replace instances by themselves that fail their health check, and how long after their start at the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repairs {
    After(Duration),
    Never,
}

impl Default for Repairs {
    fn default() -> Self {
        Self::After(Duration::from_mins(*GRACE.start()))
    }
}

impl ConfigBuilder {
    /// How scale sets have their machines; [flexible](Orchestration::Flexible) unless said otherwise.
    pub fn orchestration(mut self, orchestration: Orchestration) -> Self {
        self.0.launch.orchestration = orchestration;
        self
    }

    /// The key of who may log in to instances, as `immutable-admin`: a line such as `ssh-ed25519 AAAA...`. Unless it is given, instances have a key that nobody has
    /// the other half of: Azure wants one for every machine of Linux that takes no password.
    pub fn ssh_public_key(mut self, key: impl Into<String>) -> Self {
        self.0.launch.ssh_public_key = Some(key.into());
        self
    }

    /// The security group of the network interfaces: its id from `/subscriptions/` on. None unless said otherwise: then that of the subnet decides.
    pub fn security_group(mut self, id: impl Into<String>) -> Self {
        self.0.launch.security_group = Some(id.into());
        self
    }

    /// Gives each instance a public address of its own as well. None has one unless this is said: a load balancer or a gateway leads to them, and a
    /// NAT gateway out.
    pub fn with_public_addresses(mut self) -> Self {
        self.0.launch.exceptions.public_addresses = true;
        self
    }

    /// Has instances boot only what is signed, and measure it:
    /// [trusted launch](https://learn.microsoft.com/azure/virtual-machines/trusted-launch). Images of the second generation can have it, and
    /// those that are made for it must.
    pub fn trusted_launch(mut self) -> Self {
        self.0.launch.boot = Boot::Trusted;
        self
    }

    /// The size of disks, in gigabytes of 2³⁰ bytes; that of the image unless said otherwise.
    pub fn disk_gb(mut self, gigabytes: u32) -> Self {
        self.0.launch.disk.gigabytes = Some(gigabytes);
        self
    }

    /// The kind of disks, such as `Premium_LRS`, which not every size of machines takes; `StandardSSD_LRS` unless said otherwise.
    pub fn disk_type(mut self, kind: impl Into<String>) -> Self {
        self.0.launch.disk.kind = Some(kind.into());
        self
    }

    /// How long an instance may take to become healthy before its scale set replaces it; ten minutes unless said otherwise, at least that and
    /// [at most 90](https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-automatic-instance-repairs#grace-period).
    /// Only with a [path](Self::health_path) do sets know who is healthy.
    pub fn repair_after(mut self, grace: Duration) -> Self {
        self.0.repairs = Repairs::After(grace);
        self
    }

    /// Leaves instances alone that fail their health check. Unless this is said, a set replaces them by itself.
    pub fn without_repairs(mut self) -> Self {
        self.0.repairs = Repairs::Never;
        self
    }
}

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let launch = &config.launch;
    let is_key = launch.ssh_public_key.as_deref().is_none_or(is_key);
    hold("ssh_public_key", is_key, "must be one line such as \"ssh-ed25519 AAAA...\"")?;
    let is_group = |id: &str| names::is_resource(id, "Microsoft.Network", Some(&["networkSecurityGroups"]));
    let is_group = launch.security_group.as_deref().is_none_or(is_group);
    hold("security_group", is_group, "must look like \"/subscriptions/.../networkSecurityGroups/<group>\"")?;
    // https://learn.microsoft.com/azure/virtual-machines/faq-for-disks#what-is-the-maximum-size-for-operating-system--os--disks-
    let is_size = launch.disk.gigabytes.is_none_or(|size| (1..=4095).contains(&size));
    hold("disk_gb", is_size, "must be from 1 to 4095")?;
    let is_kind = launch.disk.kind.as_deref().is_none_or(names::is_size);
    hold("disk_type", is_kind, "must be a kind of disks, such as \"Premium_LRS\"")?;
    let Repairs::After(grace) = config.repairs else { return Ok(()) };
    let is_grace = GRACE.contains(&(grace.as_secs() / 60)) && grace.as_secs().is_multiple_of(60);
    hold("repair_after", is_grace && grace.subsec_nanos() == 0, "must be from 10 to 90 whole minutes")
}

fn is_key(text: &str) -> bool {
    let is_type = |text: &str| text.starts_with("ssh-") || text.starts_with("ecdsa-");
    let mut words = text.split(' ');
    let is_data =
        |text: &str| text.len() >= 68 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    words.next().is_some_and(is_type) && words.next().is_some_and(is_data) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{SUBSCRIPTION, builder, id};

    #[test]
    fn a_setting_of_scale_sets_that_cannot_work_is_named() {
        let good = || builder(SUBSCRIPTION, "web-production", "westeurope");
        let key = "must be one line such as \"ssh-ed25519 AAAA...\"";
        let grace = "repair_after: must be from 10 to 90 whole minutes";
        for (builder, problem) in [
            (good().ssh_public_key("hunter2"), format!("ssh_public_key: {key}")),
            (good().ssh_public_key(format!("ssh-rsa {}\nssh-rsa b", "A".repeat(70))), format!("ssh_public_key: {key}")),
            (
                good().security_group("web"),
                "security_group: must look like \"/subscriptions/.../networkSecurityGroups/<group>\"".into(),
            ),
            (good().disk_gb(0), "disk_gb: must be from 1 to 4095".into()),
            (good().disk_gb(4096), "disk_gb: must be from 1 to 4095".into()),
            (good().disk_type("fast disks"), "disk_type: must be a kind of disks, such as \"Premium_LRS\"".into()),
            (good().repair_after(Duration::from_mins(9)), grace.into()),
            (good().repair_after(Duration::from_mins(91)), grace.into()),
            (good().repair_after(Duration::from_secs(601)), grace.into()),
        ] {
            assert_eq!(builder.build().unwrap_err().to_string(), problem);
        }
        let all = good()
            .orchestration(Orchestration::Uniform)
            .ssh_public_key(format!("ssh-rsa {} somebody@somewhere", "A".repeat(372)))
            .security_group(id("Microsoft.Network/networkSecurityGroups/web"))
            .with_public_addresses()
            .disk_gb(64)
            .disk_type("Premium_LRS")
            .repair_after(Duration::from_mins(90));
        assert!(all.build().is_ok());
    }

    #[test]
    fn what_instances_are_is_in_the_label_and_who_repairs_them_is_not() {
        let good = || builder(SUBSCRIPTION, "web-production", "westeurope");
        let label = |builder: ConfigBuilder| builder.build().unwrap().launch_label();
        for other in [
            good().orchestration(Orchestration::Uniform),
            good().ssh_public_key(format!("ssh-rsa {}", "A".repeat(372))),
            good().with_public_addresses(),
            good().trusted_launch(),
            good().disk_gb(64),
            good().disk_type("Premium_LRS"),
        ] {
            assert_ne!(label(other), label(good()));
        }
        assert_eq!(label(good().without_repairs()), label(good()));
    }
}
