//! How images are built, where they are copied to and who may start instances from them.

use std::fmt;
use std::time::Duration;

use crate::config::{ConfigError, Launch, NO_KEY, is_key};

/// How images are built. What is left out is as for the instances of a fleet.
///
/// ```
/// # use std::time::Duration;
/// let images = immutable_aws::ImageSettings::default()
///     .subnet("subnet-0a1b2c3d")
///     .instance_profile("image-builder")
///     .deadline(Duration::from_secs(45 * 60));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct ImageSettings {
    pub(crate) instance_type: Option<String>,
    pub(crate) subnet: Option<String>,
    pub(crate) security_groups: Option<Vec<String>>,
    pub(crate) instance_profile: Option<String>,
    pub(crate) deadline: Duration,
    pub(crate) copies: Vec<ImageCopy>,
    pub(crate) accounts: Vec<String>,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            instance_type: None,
            subnet: None,
            security_groups: None,
            instance_profile: None,
            deadline: Duration::from_mins(30),
            copies: Vec::new(),
            accounts: Vec::new(),
        }
    }
}

impl ImageSettings {
    /// The type of the instance that an image is built on; the first of the fleet's unless said otherwise.
    pub fn instance_type(mut self, name: impl Into<String>) -> Self {
        self.instance_type = Some(name.into());
        self
    }

    /// The subnet that images are built in, from where the scripts of recipes reach what they fetch; the first of the fleet's unless said
    /// otherwise. It can be a private one: nothing connects to the builder.
    pub fn subnet(mut self, id: impl Into<String>) -> Self {
        self.subnet = Some(id.into());
        self
    }

    /// The security groups of the builder; those of the fleet unless said otherwise.
    pub fn security_groups(mut self, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.security_groups = Some(ids.into_iter().map(Into::into).collect());
        self
    }

    /// The name of the instance profile whose role the builder has, with which the scripts of recipes fetch what they need. None
    /// unless said otherwise: what a service may do at run time is nothing that its build needs.
    pub fn instance_profile(mut self, name: impl Into<String>) -> Self {
        self.instance_profile = Some(name.into());
        self
    }

    /// How long a build may take, from the start of its builder; 30 minutes unless said otherwise, from 5 minutes to 12 hours.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// Has each image copied to another region as well; `ensure` is done when it is there.
    pub fn copy_to(mut self, copy: ImageCopy) -> Self {
        self.copies.push(copy);
        self
    }

    /// Lets other accounts, by their twelve digits, start instances from each image and from its copies.
    pub fn share_with(mut self, accounts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.accounts.extend(accounts.into_iter().map(Into::into));
        self
    }

    /// The first setting that cannot work, held against those of the fleet.
    pub(crate) fn check(&self, launch: &Launch, region: Option<&str>) -> Result<(), ConfigError> {
        let wrong = |field, problem: &str| Err(ConfigError::new(field, problem));
        if !(Duration::from_mins(5)..=Duration::from_hours(12)).contains(&self.deadline) {
            return wrong("images.deadline", "must be from 5 minutes to 12 hours");
        }
        if self.subnet.as_ref().is_some_and(|id| !id.starts_with("subnet-")) {
            return wrong("images.subnet", "should look like \"subnet-...\"");
        }
        let groups = self.security_groups.as_deref();
        if groups.is_some_and(|ids| ids.is_empty() || ids.iter().any(|id| !id.starts_with("sg-"))) {
            return wrong("images.security_groups", "name at least one that looks like \"sg-...\"");
        }
        if self.accounts.iter().any(|account| account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit())) {
            return wrong("images.share_with", "an account has 12 digits");
        }
        // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharingamis-explicit.html
        let default_key = !launch.exceptions.unencrypted_root_volume
            && (launch.volume_key.is_none() || self.copies.iter().any(|copy| copy.volume_key.is_none()));
        if !self.accounts.is_empty() && default_key {
            let problem = "what is encrypted with an account's default key cannot be shared: give a volume_key, and each copy \
                           its own";
            return wrong("images.share_with", problem);
        }
        self.check_copies(region)
    }

    fn check_copies(&self, region: Option<&str>) -> Result<(), ConfigError> {
        let wrong = |problem: &str| Err(ConfigError::new("images.copy_to", problem));
        if !self.copies.is_empty() && region.is_none() {
            return wrong("the client of EC2 has no region, and a copy is told where it comes from: give it one");
        }
        for (index, copy) in self.copies.iter().enumerate() {
            let Some(to) = copy.region() else {
                return wrong("the client of EC2 for a copy has no region: give it one");
            };
            if !copy.volume_key.as_deref().is_none_or(is_key) {
                return Err(ConfigError::new("images.copy_to.volume_key", NO_KEY));
            }
            if Some(to) == region || self.copies[..index].iter().any(|other| other.region() == Some(to)) {
                return wrong("name each region once, and not the one that images are built in");
            }
        }
        Ok(())
    }
}

/// A region that images are copied to.
#[derive(Clone)]
#[must_use]
pub struct ImageCopy {
    pub(crate) client: aws_sdk_ec2::Client,
    pub(crate) volume_key: Option<String>,
}

impl ImageCopy {
    /// The region of this client, which must not retry by itself.
    pub fn new(client: aws_sdk_ec2::Client) -> Self {
        Self { client, volume_key: None }
    }

    /// The ARN of the KMS key of that region that the copy is encrypted with; the account's default key there unless said otherwise.
    pub fn volume_key(mut self, arn: impl Into<String>) -> Self {
        self.volume_key = Some(arn.into());
        self
    }

    /// The name of the region.
    pub(crate) fn region(&self) -> Option<&str> {
        self.client.config().region().map(AsRef::as_ref)
    }
}

impl fmt::Debug for ImageCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageCopy").field("region", &self.region()).finish_non_exhaustive()
    }
}
