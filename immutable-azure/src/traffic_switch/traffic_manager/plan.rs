//! Which fleet is where, and what the weights are to be. Nothing is asked or changed in here.

use std::collections::{BTreeMap, BTreeSet};

use immutable_core::model::{FleetId, Split, Weight};
use immutable_core::provider::Assignment;

use super::profile::Weights;

/// What all weights sum to, so that one is a tenth of a percent; the largest that an endpoint has, and the smallest is 1:
/// <https://learn.microsoft.com/azure/traffic-manager/traffic-manager-routing-methods#weighted-traffic-routing-method>.
const WHOLE: u32 = 1000;

/// A place for one fleet, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) endpoint: String,
    /// Whose members are there.
    pub(super) owner: Option<FleetId>,
    /// Whether nobody's members and no traffic are there.
    pub(super) is_free: bool,
    /// Whether members that were there still finish what they have begun, or somebody may still go by an earlier weight.
    pub(super) is_left: bool,
    /// The weight as it is written, and the one that requests go by.
    pub(super) written: u32,
    pub(super) in_effect: u32,
    /// Whether answers lead there, if it has a weight.
    pub(super) is_online: bool,
}

/// Why fleets cannot all have a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Full {
    /// One gets free by itself.
    ForNow(FleetId),
    Always(FleetId),
}

/// What is to be done with the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weighing {
    /// They are as they are to be.
    Done,
    Write(Weights),
    /// Until answers lead to one of those that are to have traffic.
    Wait,
}

/// The fleets of an assignment, each with the index of its place.
pub(super) fn seating(seats: &[Seat], assignment: &Assignment) -> Result<BTreeMap<FleetId, usize>, Full> {
    let members = assignment.members.iter().map(|member| &member.fleet);
    let fleets: BTreeSet<&FleetId> = members.chain(assignment.split.iter().map(|(fleet, _)| fleet)).collect();
    let found = |fleet: &FleetId| seats.iter().position(|seat| seat.owner.as_ref() == Some(fleet));
    let mut seating: BTreeMap<FleetId, usize> =
        fleets.iter().filter_map(|fleet| Some(((*fleet).clone(), found(fleet)?))).collect();
    let mut free = seats.iter().enumerate().filter(|(_, seat)| seat.is_free).map(|(index, _)| index);
    for fleet in fleets {
        if seating.contains_key(fleet) {
            continue;
        }
        let Some(index) = free.next() else {
            let is_left = seats.iter().any(|seat| seat.is_left);
            return Err(if is_left { Full::ForNow(fleet.clone()) } else { Full::Always(fleet.clone()) });
        };
        seating.insert(fleet.clone(), index);
    }
    Ok(seating)
}

/// The shares of the fleets that requests go by.
pub(super) fn split(seats: &[Seat]) -> Split {
    let mut parts: BTreeMap<FleetId, u32> = BTreeMap::new();
    for seat in seats.iter().filter(|seat| seat.in_effect > 0) {
        if let Some(owner) = &seat.owner {
            *parts.entry(owner.clone()).or_default() += seat.in_effect;
        }
    }
    let weights = Weight::from_parts(&parts.values().copied().collect::<Vec<_>>());
    Split::new(parts.into_keys().zip(weights).filter(|(_, weight)| !weight.is_none())).unwrap_or_default()
}

/// What is to be done so that the fleets have these shares.
///
/// Nobody who has traffic and can take it loses all of it before another can: if all traffic is to go elsewhere, that place first gets the least
/// weight there is, and is waited for.
pub(super) fn weighing(seats: &[Seat], seating: &BTreeMap<FleetId, usize>, wanted: &Split) -> Weighing {
    let (fleets, weights): (Vec<&FleetId>, Vec<Weight>) = wanted.iter().unzip();
    let mut parts = vec![0; seats.len()];
    for (fleet, part) in fleets.into_iter().zip(Weight::to_parts(&weights, WHOLE)) {
        if let Some(index) = seating.get(fleet) {
            parts[*index] = part;
        }
    }
    let written: Vec<u32> = seats.iter().map(|seat| seat.written).collect();
    if Weight::from_parts(&parts) == Weight::from_parts(&written) {
        return Weighing::Done;
    }
    let all = || seats.iter().zip(&parts);
    let closes = parts.iter().all(|part| *part == 0);
    let goes = all().any(|(seat, part)| *part == 0 && seat.written > 0 && seat.is_online);
    let stays = all().any(|(seat, part)| *part > 0 && seat.written > 0 && seat.is_online);
    if closes || !goes || stays {
        return Weighing::Write(all().map(|(seat, part)| (seat.endpoint.clone(), *part)).collect());
    }
    if all().all(|(seat, part)| *part == 0 || seat.written > 0) {
        return Weighing::Wait;
    }
    let least = |(seat, part): (&Seat, &u32)| {
        let weight = if *part > 0 { seat.written.max(1) } else { seat.written };
        (seat.endpoint.clone(), weight)
    };
    Weighing::Write(all().map(least).collect())
}

#[cfg(test)]
mod tests {
    use immutable_core::model::{Endpoint, InstanceId};
    use immutable_core::provider::MemberTarget;

    use super::*;

    fn fleet(name: &str) -> FleetId {
        name.parse().unwrap()
    }

    fn seat(endpoint: &str, owner: &str, written: u32, is_online: bool) -> Seat {
        let owner = (!owner.is_empty()).then(|| fleet(owner));
        let is_free = owner.is_none() && written == 0;
        let endpoint = endpoint.to_owned();
        Seat { endpoint, owner, is_free, is_left: false, written, in_effect: written, is_online }
    }

    fn wanted(weights: &[(&str, u16)]) -> Assignment {
        let member = |name: &str| MemberTarget {
            instance: InstanceId::new(format!("im-{name}_1")).unwrap(),
            fleet: fleet(name),
            endpoint: Endpoint::new("10.0.0.1", 80).unwrap(),
        };
        let members = weights.iter().map(|(name, _)| member(name)).collect();
        let weights = weights.iter().map(|(name, points)| (fleet(name), Weight::basis_points(*points).unwrap()));
        Assignment { split: Split::new(weights).unwrap(), members }
    }

    #[test]
    fn fleets_keep_their_places_and_new_ones_take_free_ones() {
        let seats = [seat("blue", "old", 1000, true), seat("green", "", 0, false), seat("red", "", 0, false)];
        let both = seating(&seats, &wanted(&[("new", 5000), ("old", 5000)])).unwrap();
        assert_eq!(both, BTreeMap::from([(fleet("new"), 1), (fleet("old"), 0)]));
        let mut taken = vec![seat("blue", "old", 1000, true), seat("green", "other", 0, false)];
        assert_eq!(seating(&taken, &wanted(&[("new", 10_000)])), Err(Full::Always(fleet("new"))));
        taken[1].is_left = true;
        assert_eq!(seating(&taken, &wanted(&[("new", 10_000)])), Err(Full::ForNow(fleet("new"))));
    }

    #[test]
    fn weights_move_only_where_answers_lead() {
        let check = |seats: [Seat; 2], weights: &[(&str, u16)], expected: Option<[u32; 2]>| {
            let assignment = wanted(weights);
            let weighing = weighing(&seats, &seating(&seats, &assignment).unwrap(), &assignment.split);
            let written = expected.map(|[blue, green]| {
                Weighing::Write(BTreeMap::from([("blue".to_owned(), blue), ("green".to_owned(), green)]))
            });
            match written {
                Some(written) => assert_eq!(weighing, written, "{seats:?} {weights:?}"),
                None => assert!(!matches!(weighing, Weighing::Write(_)), "{seats:?} {weights:?}: {weighing:?}"),
            }
        };
        let (blue, green) =
            (|written, on| seat("blue", "old", written, on), |written, on| seat("green", "new", written, on));
        // From nothing, and back.
        check([blue(0, false), green(0, false)], &[("old", 10_000)], Some([1000, 0]));
        check([blue(1000, true), green(0, false)], &[], Some([0, 0]));
        // In parts.
        check([blue(1000, true), green(0, false)], &[("old", 9000), ("new", 1000)], Some([900, 100]));
        check([blue(900, true), green(100, true)], &[("old", 9000), ("new", 1000)], None);
        // As a whole: first the least, then all of it when answers lead there.
        check([blue(1000, true), green(0, false)], &[("new", 10_000)], Some([1000, 1]));
        check([blue(1000, true), green(1, false)], &[("new", 10_000)], None);
        check([blue(1000, true), green(1, true)], &[("new", 10_000)], Some([0, 1000]));
        // What is broken is not waited for.
        check([blue(1000, false), green(0, false)], &[("new", 10_000)], Some([0, 1000]));
        // Other weights in the same proportion are the same.
        check([blue(1, true), green(1, true)], &[("old", 5000), ("new", 5000)], None);
    }
}
