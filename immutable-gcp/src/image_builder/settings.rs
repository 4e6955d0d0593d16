//! How images are built.

use std::time::Duration;

use crate::config::{ConfigError, Launch, is_name, is_zone};

/// How images are built. What is left out is as for the instances of a fleet.
///
/// ```
/// # use std::time::Duration;
/// let images = immutable_gcp::ImageSettings::default()
///     .machine_type("e2-standard-4")
///     .service_account("image-builder@web-production.iam.gserviceaccount.com")
///     .deadline(Duration::from_secs(45 * 60));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ImageSettings {
    pub(crate) zone: Option<String>,
    pub(crate) machine_type: Option<String>,
    pub(crate) subnetwork: Option<String>,
    pub(crate) service_account: Option<String>,
    pub(crate) family: Option<String>,
    pub(crate) deadline: Duration,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            zone: None,
            machine_type: None,
            subnetwork: None,
            service_account: None,
            family: None,
            deadline: Duration::from_mins(30),
        }
    }
}

impl ImageSettings {
    /// The zone that images are built in; the first of the fleet's unless said otherwise. Images can be used in all zones.
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// The type of the machine that an image is built on; the fleet's unless said otherwise.
    pub fn machine_type(mut self, name: impl Into<String>) -> Self {
        self.machine_type = Some(name.into());
        self
    }

    /// The subnetwork that images are built in, from where the scripts of recipes reach what they fetch; the fleet's unless said
    /// otherwise. Its URL from `projects/` or `regions/` on. Nothing connects to the builder.
    pub fn subnetwork(mut self, subnetwork: impl Into<String>) -> Self {
        self.subnetwork = Some(subnetwork.into());
        self
    }

    /// The e-mail address of the service account that the builder runs as, with which the scripts of recipes fetch what they need. None
    /// unless said otherwise: what a service may do at run time is nothing that its build needs.
    pub fn service_account(mut self, email: impl Into<String>) -> Self {
        self.service_account = Some(email.into());
        self
    }

    /// The family that images are put into, for people and tools that look for the newest. Fleets are made of one image, never of a family.
    pub fn family(mut self, name: impl Into<String>) -> Self {
        self.family = Some(name.into());
        self
    }

    /// How long a build may take, from the start of its builder; 30 minutes unless said otherwise, from 5 minutes to 12 hours.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// The first setting that cannot work, held against those of the fleet.
    pub(crate) fn check(&self, launch: &Launch) -> Result<(), ConfigError> {
        let wrong = |field, problem: &str| Err(ConfigError::new(field, problem));
        if !(Duration::from_mins(5)..=Duration::from_hours(12)).contains(&self.deadline) {
            return wrong("images.deadline", "must be from 5 minutes to 12 hours");
        }
        if self.machine_type.as_deref().is_some_and(|name| !is_name(name)) {
            return wrong("images.machine_type", "must be a machine type, such as \"e2-standard-2\"");
        }
        if self.family.as_deref().is_some_and(|name| !is_name(name)) {
            return wrong("images.family", "must have only lower-case letters, digits and hyphens");
        }
        if self.service_account.as_deref().is_some_and(|email| !email.contains('@')) {
            return wrong("images.service_account", "must be an e-mail address");
        }
        let Some(zone) = self.zone.as_deref() else { return Ok(()) };
        if !is_zone(zone) {
            return wrong("images.zone", "a zone looks like \"europe-west3-a\"");
        }
        let region = |zone: &str| zone.rsplit_once('-').map(|(region, _)| region.to_owned());
        let is_elsewhere = launch.location.zones().first().is_some_and(|fleets| region(fleets) != region(zone));
        if is_elsewhere && launch.subnetwork.is_some() && self.subnetwork.is_none() {
            return wrong(
                "images.zone",
                "is in another region than the fleet's subnetwork: name a subnetwork for images",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::builder;

    #[tokio::test]
    async fn a_setting_that_cannot_work_is_named() {
        let images = ImageSettings::default;
        let cases = [
            (images().deadline(Duration::from_mins(4)), "images.deadline: must be from 5 minutes to 12 hours"),
            (images().machine_type("E2"), "images.machine_type: must be a machine type, such as \"e2-standard-2\""),
            (images().family("Web"), "images.family: must have only lower-case letters, digits and hyphens"),
            (images().service_account("builder"), "images.service_account: must be an e-mail address"),
            (images().zone("europe-west3"), "images.zone: a zone looks like \"europe-west3-a\""),
            (
                images().zone("us-east1-b"),
                "images.zone: is in another region than the fleet's subnetwork: name a subnetwork for images",
            ),
        ];
        let builder = builder().await.network("web").subnetwork("regions/europe-west3/subnetworks/web");
        for (images, problem) in cases {
            assert_eq!(builder.clone().images(images).build().unwrap_err().to_string(), problem);
        }
        let elsewhere = images().zone("us-east1-b").subnetwork("regions/us-east1/subnetworks/images");
        assert!(builder.images(elsewhere).build().is_ok());
    }
}
