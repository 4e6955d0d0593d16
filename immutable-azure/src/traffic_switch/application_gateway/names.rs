//! The names of pools of ours: `im-<fleet>-<route>`, and `im-<fleet>-<route>-out-<seconds since 1970>` for those who leave.

use immutable_core::model::FleetId;
use immutable_core::provider::{ErrorKind, ProviderError};
use jiff::Timestamp;

use crate::ownership::{self, PREFIX};

/// The longest name: <https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftnetwork>.
const LONGEST: usize = 80;

const OUT: &str = "-out-";

/// What a pool of ours is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) fleet: FleetId,
    /// Since when those in it leave.
    pub(super) out: Option<Timestamp>,
}

/// The name of the pool of a fleet on a route.
///
/// # Errors
/// `InvalidRequest` for a fleet whose id is no name, or too long for one: those that the engine makes never are.
pub(super) fn pool(operation: &'static str, fleet: &FleetId, route: &str) -> Result<String, ProviderError> {
    let name = format!("{}-{route}", ownership::name(operation, fleet)?);
    // Ten digits last until the year 2286.
    if name.len() + OUT.len() + 10 <= LONGEST {
        return Ok(name);
    }
    let problem =
        format!("the name of fleet {fleet} is too long for a backend pool: it must have at most 53 characters");
    Err(ProviderError::new(ErrorKind::InvalidRequest, operation, problem).without_effect())
}

/// The name of the pool of those who leave a fleet from now on.
///
/// # Errors
/// As [`pool`].
pub(super) fn out(
    operation: &'static str,
    fleet: &FleetId,
    route: &str,
    since: Timestamp,
) -> Result<String, ProviderError> {
    Ok(format!("{}{OUT}{}", pool(operation, fleet, route)?, since.as_second()))
}

/// What a pool of ours on this route is; nothing for one of somebody else's, or of another route.
pub(super) fn read(name: &str, route: &str) -> Option<Named> {
    let fleet = |name: &str| FleetId::new(name.strip_prefix(PREFIX)?.strip_suffix(route)?.strip_suffix('-')?).ok();
    let left = name.rsplit_once(OUT).and_then(|(rest, since)| {
        let since = Timestamp::from_second(since.parse().ok()?).ok()?;
        Some(Named { fleet: fleet(rest)?, out: Some(since) })
    });
    left.or_else(|| Some(Named { fleet: fleet(name)?, out: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "0a1b2c3d";

    #[test]
    fn a_name_tells_what_it_was_made_of() {
        let since = Timestamp::from_second(1_800_000_000).unwrap();
        for fleet in ["web-1f2e", "web-out-17", "a"] {
            let fleet: FleetId = fleet.parse().unwrap();
            let (inside, outside) = (pool("test", &fleet, ROUTE).unwrap(), out("test", &fleet, ROUTE, since).unwrap());
            assert_eq!(read(&inside, ROUTE), Some(Named { fleet: fleet.clone(), out: None }));
            assert_eq!(read(&outside, ROUTE), Some(Named { fleet, out: Some(since) }));
            assert_eq!((read(&inside, "ffffffff"), read(&outside, "ffffffff")), (None, None));
        }
        for nobodys in ["", "web", "im-", "im-web", "im--0a1b2c3d", "im-0a1b2c3d", "web-0a1b2c3d"] {
            assert_eq!(read(nobodys, ROUTE), None, "{nobodys}");
        }
    }

    #[test]
    fn the_longest_fleet_has_a_name_and_a_longer_one_is_refused() {
        let release = immutable_core::model::Fingerprint::of("x").to_string().parse().unwrap();
        let longest = FleetId::of(&"a".repeat(39).parse().unwrap(), &release);
        let since = Timestamp::from_second(9_999_999_999).unwrap();
        assert_eq!(out("test", &longest, ROUTE, since).unwrap().len(), LONGEST - 1);
        let longer: FleetId = format!("{longest}a").parse().unwrap();
        assert_eq!(pool("test", &longer, ROUTE).unwrap_err().kind(), ErrorKind::InvalidRequest);
    }
}
