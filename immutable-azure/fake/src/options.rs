//! What a fake is like.

use std::collections::BTreeSet;
use std::time::Duration;

/// What a fake is like: where it is, how long things take there, what is allowed.
///
/// The times are short, so that tests are; the order of things is that of the real service.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a way in which Azure may be, whatever the others are")]
pub struct Options {
    /// The only subscription there is.
    pub subscription: String,
    /// The resource groups there are.
    pub groups: BTreeSet<String>,
    /// The only location there is.
    pub location: String,
    /// Its availability zones.
    pub zones: Vec<String>,
    /// How long an asynchronous operation runs; zero: it is over when it is answered. Operations that wait for machines
    /// run until those are there, or gone.
    pub operation_time: Duration,
    /// How long a machine takes from its creation until it runs.
    pub boot_time: Duration,
    /// How long a machine takes to stop or to be deleted.
    pub stop_time: Duration,
    /// How long the health extension of a machine that runs takes until it knows how the application is.
    pub health_time: Duration,
    /// How long the script of a run command takes.
    pub run_time: Duration,
    /// How long a second of the API lasts, such as one of a `gracePeriod`.
    pub second: Duration,
    /// Whether a gateway takes those for bad who are new behind a rule until the interval of its probe has passed: `"A backend server is marked as
    /// unhealthy by default until a successful probe response is received"`,
    /// <https://learn.microsoft.com/azure/application-gateway/application-gateway-probe-overview>.
    pub probes_take_time: bool,
    /// Whether machines that a scale set could not make are there all the same, as failed ones, until they are deleted: Azure
    /// keeps some and drops others, <https://learn.microsoft.com/azure/virtual-machine-scale-sets/resilient-vm-create-delete>.
    pub keeps_failed: bool,
    /// For how long the interfaces of a machine that a flexible set could not make stay behind, and are reserved for it: Azure says "for 180
    /// seconds". Zero: they do not stay behind.
    pub reserve_time: Duration,
    /// Whether a set counts who leaves it until the machine is gone, and not only until its end begins.
    pub leaves_late: bool,
    /// Whether a change of a set's tags makes its members older than its model, as any other change does.
    pub outdated_by_tags: bool,
    /// How much later a list shows what is made and what is gone than a `GET` does.
    pub list_lag: Duration,
    /// The most entries of one page.
    pub page: usize,
    /// The `Retry-After` of answers about operations that run, in whole seconds.
    pub retry_after: u32,
    /// The actions that the caller may take, such as `Microsoft.Compute/virtualMachineScaleSets/write`; none given: all.
    /// To follow an operation is one as well, `Microsoft.Compute/locations/operations/read`, and so is each use of what a
    /// written body refers to, such as `Microsoft.Network/virtualNetworks/subnets/join/action`.
    pub actions: Option<BTreeSet<String>>,
}

impl Default for Options {
    /// One resource group, three zones, two entries on a page, fractions of a second, no lag, everything allowed.
    fn default() -> Self {
        Self {
            subscription: "00000000-0000-0000-0000-00000000fa4e".to_owned(),
            groups: BTreeSet::from(["fake".to_owned()]),
            location: "westeurope".to_owned(),
            zones: ["1", "2", "3"].map(str::to_owned).to_vec(),
            operation_time: Duration::from_millis(50),
            boot_time: Duration::from_millis(100),
            stop_time: Duration::from_millis(50),
            health_time: Duration::from_millis(100),
            run_time: Duration::from_millis(50),
            second: Duration::from_millis(10),
            probes_take_time: true,
            keeps_failed: false,
            reserve_time: Duration::ZERO,
            leaves_late: false,
            outdated_by_tags: false,
            list_lag: Duration::ZERO,
            page: 2,
            retry_after: 1,
            actions: None,
        }
    }
}
