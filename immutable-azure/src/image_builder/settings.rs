//! How images are built, and where they are kept.

use std::time::Duration;

use crate::config::{ConfigError, is_location, is_resource, is_size};

/// Where images are kept and how they are built. What is left out is as for the instances of a fleet.
///
/// ```
/// # use std::time::Duration;
/// let group = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/images";
/// let images = immutable_azure::ImageSettings::new(format!("{group}/providers/Microsoft.Compute/galleries/golden"))
///     .vm_size("Standard_D4s_v5")
///     .identity(format!("{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder"))
///     .regions(["northeurope"])
///     .deadline(Duration::from_secs(45 * 60));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ImageSettings {
    pub(crate) gallery: String,
    pub(crate) vm_size: Option<String>,
    pub(crate) subnet: Option<String>,
    pub(crate) identity: Option<String>,
    pub(crate) regions: Vec<String>,
    pub(crate) replicas: Option<u32>,
    pub(crate) keep_for: Option<Duration>,
    pub(crate) is_arm: bool,
    pub(crate) is_first_generation: bool,
    pub(crate) deadline: Duration,
}

impl ImageSettings {
    /// Images are kept in this gallery: its id from `/subscriptions/` on. It has to be there.
    pub fn new(gallery: impl Into<String>) -> Self {
        Self {
            gallery: gallery.into(),
            vm_size: None,
            subnet: None,
            identity: None,
            regions: Vec::new(),
            replicas: None,
            keep_for: None,
            is_arm: false,
            is_first_generation: false,
            deadline: Duration::from_mins(30),
        }
    }

    /// The size of the machine that an image is built on; the fleet's unless said otherwise.
    pub fn vm_size(mut self, size: impl Into<String>) -> Self {
        self.vm_size = Some(size.into());
        self
    }

    /// The subnet that images are built in, from where the scripts of recipes reach what they fetch; the fleet's unless said otherwise. Its id
    /// from `/subscriptions/` on. Nothing connects to the builder, which has no public address.
    ///
    /// It needs a way out to Azure, port 443 of the service tag `AzureCloud`, even where no script fetches anything: without one,
    /// [run commands](https://learn.microsoft.com/azure/virtual-machines/linux/run-command#restrictions) run and what they say is not heard, so that each build
    /// ends at its deadline. So the vendor says; it was not tried.
    pub fn subnet(mut self, id: impl Into<String>) -> Self {
        self.subnet = Some(id.into());
        self
    }

    /// The user-assigned managed identity of the builder, with which the scripts of recipes fetch what they need: its id from `/subscriptions/` on.
    /// None unless said otherwise: what a service may do at run time is nothing that its build needs.
    pub fn identity(mut self, id: impl Into<String>) -> Self {
        self.identity = Some(id.into());
        self
    }

    /// The regions that images are copied to beside that of the configuration, where they always are. An image is there when it is in all of them.
    pub fn regions(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.regions = names.into_iter().map(Into::into).collect();
        self
    }

    /// How many copies of an image are kept in each region, from 1 to
    /// [100](https://learn.microsoft.com/azure/virtual-machines/azure-compute-gallery#limits); one unless said otherwise. So many more instances
    /// can start at the same time.
    pub fn replicas(mut self, copies: u32) -> Self {
        self.replicas = Some(copies);
        self
    }

    /// When images are marked as at the end of their life, from their build on; never unless said otherwise. They can be used after that as before.
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.keep_for = Some(time);
        self
    }

    /// Images are for machines of the architecture Arm64, and not x64. The base has to be as well, and the size of machines.
    pub fn arm64(mut self) -> Self {
        self.is_arm = true;
        self
    }

    /// Images are for machines of [the first generation](https://learn.microsoft.com/azure/virtual-machines/generation-2), as the base is, and not of
    /// the second.
    pub fn first_generation(mut self) -> Self {
        self.is_first_generation = true;
        self
    }

    /// How long a build may take, from the start of its builder; 30 minutes unless said otherwise, from 5 minutes to 12 hours.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// The first setting that cannot work. `location`: that of the configuration.
    pub(crate) fn check(&self, location: &str) -> Result<(), ConfigError> {
        let wrong = |field, problem: &str| Err(ConfigError::new(field, problem));
        if !is_resource(&self.gallery, "Microsoft.Compute", Some(&["galleries"])) {
            return wrong("images.gallery", "must look like \"/subscriptions/.../galleries/<gallery>\"");
        }
        if !(Duration::from_mins(5)..=Duration::from_hours(12)).contains(&self.deadline) {
            return wrong("images.deadline", "must be from 5 minutes to 12 hours");
        }
        if self.vm_size.as_deref().is_some_and(|size| !is_size(size)) {
            return wrong("images.vm_size", "must be a size of machines, such as \"Standard_D2s_v5\"");
        }
        let subnets = ["virtualNetworks", "subnets"];
        if self.subnet.as_deref().is_some_and(|id| !is_resource(id, "Microsoft.Network", Some(&subnets))) {
            return wrong(
                "images.subnet",
                "must look like \"/subscriptions/.../virtualNetworks/<network>/subnets/<subnet>\"",
            );
        }
        let identities = ["userAssignedIdentities"];
        let is_identity = |id: &str| is_resource(id, "Microsoft.ManagedIdentity", Some(&identities));
        if self.identity.as_deref().is_some_and(|id| !is_identity(id)) {
            return wrong("images.identity", "must look like \"/subscriptions/.../userAssignedIdentities/<identity>\"");
        }
        for (index, region) in self.regions.iter().enumerate() {
            if !is_location(region) {
                return wrong("images.regions", "a region is the name of a location, such as \"westeurope\"");
            }
            if region == location || self.regions[..index].contains(region) {
                return wrong("images.regions", "name each once, and not the location of the configuration");
            }
        }
        if self.replicas.is_some_and(|copies| !(1..=100).contains(&copies)) {
            return wrong("images.replicas", "must be from 1 to 100");
        }
        let longest = Duration::from_hours(24 * 365 * 100);
        if self.keep_for.is_some_and(|time| !(Duration::from_hours(1)..=longest).contains(&time)) {
            return wrong("images.keep_for", "must be from an hour to 100 years");
        }
        if self.is_arm && self.is_first_generation {
            return wrong("images.first_generation", "machines of the architecture Arm64 are of the second generation");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let providers = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers";
        let images = || ImageSettings::new(format!("{providers}/Microsoft.Compute/galleries/golden"));
        let regions = "images.regions: name each once, and not the location of the configuration";
        for (settings, problem) in [
            (ImageSettings::new("golden"), "images.gallery: must look like \"/subscriptions/.../galleries/<gallery>\""),
            (images().deadline(Duration::from_mins(4)), "images.deadline: must be from 5 minutes to 12 hours"),
            (images().vm_size("D 2"), "images.vm_size: must be a size of machines, such as \"Standard_D2s_v5\""),
            (
                images().subnet("web"),
                "images.subnet: must look like \"/subscriptions/.../virtualNetworks/<network>/subnets/<subnet>\"",
            ),
            (
                images().identity("web"),
                "images.identity: must look like \"/subscriptions/.../userAssignedIdentities/<identity>\"",
            ),
            (
                images().regions(["North Europe"]),
                "images.regions: a region is the name of a location, such as \"westeurope\"",
            ),
            (images().regions(["westeurope"]), regions),
            (images().regions(["northeurope", "northeurope"]), regions),
            (images().replicas(0), "images.replicas: must be from 1 to 100"),
            (images().keep_for(Duration::ZERO), "images.keep_for: must be from an hour to 100 years"),
            (
                images().arm64().first_generation(),
                "images.first_generation: machines of the architecture Arm64 are of the second generation",
            ),
        ] {
            assert_eq!(settings.check("westeurope").unwrap_err().to_string(), problem);
        }
        let all = images().regions(["northeurope"]).replicas(3).keep_for(Duration::from_hours(48)).arm64();
        assert_eq!(all.check("westeurope"), Ok(()));
    }
}
