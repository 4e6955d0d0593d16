//! The clauses of [`TrafficSwitch`](crate::provider::TrafficSwitch).

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::future::join;

use super::bench::{Bench, Check, Seen, hold};
use super::harness::{Ability, Version};
use super::world::{is_in_effect, is_same};
use crate::model::{FleetId, RouteId, Split, Weight};
use crate::provider::{Assignment, ErrorKind, MemberHealth, MemberTarget, SwitchKind, TrafficState};

/// All traffic to the fleet of the first of these members, which are all members.
fn all_to(members: &[MemberTarget]) -> Assignment {
    let split = members.first().map(|member| Split::all_to(member.fleet.clone())).unwrap_or_default();
    Assignment { split, members: members.to_vec() }
}

/// The old fleet keeps so much of the traffic, and the new one has the rest.
fn divided(old: &[MemberTarget], new: &[MemberTarget], kept: u16) -> Result<Assignment, Seen> {
    let rest = Weight::FULL.points() - kept;
    let weight = |members: &[MemberTarget], points| {
        let fleet = members.first().map(|member| member.fleet.clone());
        fleet.map(|fleet| Ok((fleet, Weight::basis_points(points)?))).transpose()
    };
    let split = weight(old, kept).and_then(|old| Split::new(old.into_iter().chain(weight(new, rest)?)));
    let split = split.map_err(|error| Seen(error.to_string()))?;
    Ok(Assignment { split, members: [old, new].concat() })
}

impl Bench<'_> {
    /// Traffic for both fleets, where the switch does not declare that it cannot share it. By weight they have unequal shares
    /// with equally many members, so that no switch by membership passes for one.
    fn shared(&self, old: &[MemberTarget], new: &[MemberTarget]) -> Result<Option<Assignment>, Seen> {
        let capabilities = self.platform.traffic.capabilities();
        let step = match capabilities.kind {
            SwitchKind::Weighted { step } => step.points().max(1),
            SwitchKind::Membership => 1,
        };
        let quarter = Weight::FULL.points() / 4;
        let kept = (quarter - quarter % step).max(step);
        if capabilities.max_fleets.is_some_and(|max| max < 2) || kept >= Weight::FULL.points() {
            self.gap("two fleets with traffic", format_args!("the switch declares that it cannot: {capabilities:?}"));
            return Ok(None);
        }
        divided(old, new, kept).map(Some)
    }

    /// What the switch declares that it cannot do, it refuses.
    async fn refuses_to_share(&self, old: &[MemberTarget], new: &[MemberTarget]) -> Check {
        let before = self.route().await?;
        let (cx, route) = (self.cx("apply more than is declared"), self.harness.route());
        let wanted = divided(old, new, Weight::FULL.points() / 2)?;
        let call = self.platform.traffic.apply(&cx, &route, &wanted, &before.version);
        match self.call("apply", call).await? {
            Ok(answer) => {
                return Err(Seen(format!("the switch declares that it cannot share traffic, and answered {answer:?}")));
            }
            Err(error) => hold!(
                matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidRequest),
                "what the switch declares that it cannot do is refused as something else: {error}"
            ),
        }
        let after = self.route().await?;
        hold!(after.split == before.split, "a refused `apply` made {after:?} of {before:?}");
        Ok(())
    }

    /// Sends a request, if the harness can.
    async fn request(&self) -> Result<Option<Result<FleetId, String>>, Seen> {
        let answer = self.harness.request().await;
        Ok(if self.able(Ability::Request, answer.is_some())? { answer } else { None })
    }

    /// Every request is answered by one of these fleets.
    async fn requests_reach(&self, fleets: &[&FleetId], when: &str) -> Check {
        for _ in 0..8 {
            match self.request().await? {
                None => return Ok(()),
                Some(Ok(fleet)) => hold!(fleets.contains(&&fleet), "{when}, a request was answered by {fleet}"),
                Some(Err(error)) => return Err(Seen(format!("{when}, a request was lost: {error}"))),
            }
        }
        Ok(())
    }

    /// Sends one request after another while something else goes on, and tells the first that was lost.
    async fn under_load(&self, work: impl Future<Output = Check>) -> Check {
        let (over, lost) = (Cell::new(false), RefCell::new(None));
        let load = async {
            while !over.get() {
                match self.request().await? {
                    None => return Ok(()),
                    Some(Err(error)) => drop(lost.borrow_mut().get_or_insert(error)),
                    Some(Ok(_)) => {}
                }
                self.harness.wait(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        let work = async {
            let done = work.await;
            over.set(true);
            done
        };
        let (load, work) = join(load, work).await;
        load.and(work)?;
        let lost = lost.into_inner();
        hold!(lost.is_none(), "a request was lost on the way: {lost:?}");
        Ok(())
    }
}

pub(super) async fn t1_observed_not_remembered(bench: &Bench<'_>) -> Check {
    let unused = bench.route().await?;
    hold!(unused.split.is_closed() && unused.members.is_empty(), "an unused route is {unused:?}");
    let (old, new) = (bench.members(Version::Old, 2).await?, bench.members(Version::New, 2).await?);
    let shared = bench.shared(&old, &new)?;
    if shared.is_none() {
        bench.refuses_to_share(&old, &new).await?;
    }
    for wanted in [Some(all_to(&old)), shared, Some(all_to(&new))].into_iter().flatten() {
        bench.apply(&wanted).await?;
        let mut state = bench.look_at_route().await?;
        bench
            .until("the route is as it was applied, and its members are in use", async || {
                state = bench.look_at_route().await?;
                let now = bench.harness.now();
                hold!(state.as_of <= now, "`as_of` is {}, and it is {now}", state.as_of);
                Ok(is_in_effect(&state, &wanted, bench.is_by_weight()))
            })
            .await?;
        // What is observed is what requests meet, at once.
        let fleets: Vec<_> = state.split.iter().map(|(fleet, _)| fleet).collect();
        bench.requests_reach(&fleets, &format!("with {} observed", state.split)).await?;
    }
    Ok(())
}

pub(super) async fn t2_compare_and_swap(bench: &Bench<'_>) -> Check {
    let (old, new) = (bench.members(Version::Old, 2).await?, bench.members(Version::New, 2).await?);
    let (to_old, to_new) = (all_to(&old), all_to(&new));
    let mut versions = vec![bench.route().await?.version];
    let shared = bench.shared(&old, &new)?;
    // The first is there twice: what was changed and changed back is not what it was.
    let one = all_to(&new[..1]);
    for wanted in [Some(&to_old), shared.as_ref(), Some(&one), Some(&to_old), Some(&to_new)].into_iter().flatten() {
        bench.apply(wanted).await?;
        let changed = bench.route().await?;
        hold!(
            !versions.contains(&changed.version),
            "the route was changed to {}, and has the version {} as before",
            wanted.split,
            changed.version
        );
        versions.push(changed.version);
    }
    bench.until_in_effect(&to_new).await?;
    // Whoever is still on the way out may be gone at the next look, without a change of the route.
    let drains = |state: TrafficState| state.members.iter().any(|member| member.health == MemberHealth::Draining);
    bench.until("nobody is draining any more", async || Ok(!drains(bench.route().await?))).await?;
    let before = bench.route().await?;
    let (cx, route) = (bench.cx("apply to an old version"), bench.harness.route());
    for stale in versions.iter().filter(|version| **version != before.version) {
        match bench.call("apply", bench.platform.traffic.apply(&cx, &route, &to_old, stale)).await? {
            Ok(answer) => return Err(Seen(format!("`apply` to the old version {stale} answered {answer:?}"))),
            Err(error) => hold!(error.kind() == ErrorKind::Conflict, "an old version is no conflict: {error}"),
        }
        let after = bench.route().await?;
        hold!(is_same(&after, &before), "`apply` to an old version made {after:?} of {before:?}");
    }
    race(bench, &before, &to_old, &all_to(&old[..1])).await
}

/// Of two who saw the same version, one changes the route and the other is told.
async fn race(bench: &Bench<'_>, before: &TrafficState, one: &Assignment, other: &Assignment) -> Check {
    let (route, traffic) = (bench.harness.route(), &bench.platform.traffic);
    let (left_cx, right_cx) = (bench.cx("apply, left"), bench.cx("apply, right"));
    let left = bench.call("apply", traffic.apply(&left_cx, &route, one, &before.version));
    let right = bench.call("apply", traffic.apply(&right_cx, &route, other, &before.version));
    let (left, right) = join(left, right).await;
    let (left, right) = (left?, right?);
    let refused = [&left, &right].into_iter().filter_map(|answer| answer.as_ref().err());
    let conflicts = refused.filter(|error| error.kind() == ErrorKind::Conflict).count();
    hold!(conflicts == 1, "two at once with one version: the first got {left:?}, the second {right:?}");
    Ok(())
}

pub(super) async fn t3_make_before_break(bench: &Bench<'_>) -> Check {
    let (old, new) = (bench.members(Version::Old, 2).await?, bench.members(Version::New, 2).await?);
    bench.move_to(&all_to(&old)).await?;
    let both = [&old[..], &new[..]].concat();
    let shared = bench.shared(&old, &new)?;
    bench
        .under_load(async {
            // First as members without traffic, until the balancer uses them; then weight; then the old ones go.
            if bench.is_by_weight() {
                bench.move_to(&all_to(&both)).await?;
            }
            if let Some(shared) = &shared {
                bench.move_to(shared).await?;
            }
            bench.move_to(&all_to(&new)).await
        })
        .await
}

pub(super) async fn t4_drain(bench: &Bench<'_>) -> Check {
    let members = bench.members(Version::Old, 2).await?;
    bench.move_to(&all_to(&members)).await?;
    let holder = bench.harness.begin_request().await;
    let held = bench.able(Ability::HoldRequest, holder.is_some())?;
    let leaving = holder.unwrap_or_else(|| members[0].instance.clone());
    let rest: Vec<_> = members.into_iter().filter(|member| member.instance != leaving).collect();
    hold!(rest.len() == 1, "the request is held by {leaving}, which is no member");
    bench.apply(&all_to(&rest)).await?;
    let health = async || -> Result<Option<MemberHealth>, Seen> {
        let members = bench.route().await?.members;
        Ok(members.into_iter().find(|member| member.instance == leaving).map(|member| member.health))
    };
    bench
        .until("a member that goes is draining or out", async || {
            Ok(matches!(health().await?, None | Some(MemberHealth::Draining)))
        })
        .await?;
    if held {
        let seen = health().await?;
        hold!(
            seen == Some(MemberHealth::Draining),
            "with a request in flight, a member that goes is listed as {seen:?}"
        );
        // No new request is given to it: all are answered, although it answers nobody at the moment.
        bench.requests_reach(&[&rest[0].fleet], "beside a draining member").await?;
        let finished = bench.harness.finish_request().await;
        hold!(finished.is_ok(), "the request in flight was cut: {finished:?}");
    }
    bench.until("a drained member is out", async || Ok(health().await?.is_none())).await
}

/// A switch that can be asked for another route has one to be named.
async fn no_other_route(bench: &Bench<'_>) -> Check {
    let other = RouteId::new("conformance-no-such-route").map_err(|error| Seen(error.to_string()))?;
    let cx = bench.cx("observe a route that does not exist");
    match bench.call("observe of the route", bench.platform.traffic.observe(&cx, &other)).await? {
        Ok(state) => Err(Seen(format!("the harness names no other route, and {other} is observed as {state:?}"))),
        Err(error) => {
            hold!(
                error.kind() == ErrorKind::NotFound,
                "a route that does not exist is refused as something else: {error}"
            );
            Ok(())
        }
    }
}

pub(super) async fn t5_nothing_else(bench: &Bench<'_>) -> Check {
    let members = bench.members(Version::Old, 1).await?;
    let other = bench.harness.other_route();
    bench.able(Ability::OtherRoute, other.is_some())?;
    let Some(other) = other else { return no_other_route(bench).await };
    let traffic = &bench.platform.traffic;
    let look = async || {
        let cx = bench.cx("observe the other route");
        bench.good("observe of the other route", traffic.observe(&cx, &other)).await
    };
    let version = look().await?.version;
    let (cx, wanted) = (bench.cx("apply to the other route"), all_to(&members));
    bench.done("apply to the other route", || traffic.apply(&cx, &other, &wanted, &version)).await?;
    bench
        .until("the other route is in use", async || Ok(is_in_effect(&look().await?, &wanted, bench.is_by_weight())))
        .await?;
    let before = look().await?;
    for wanted in [&wanted, &all_to(&[])] {
        bench.move_to(wanted).await?;
        let after = look().await?;
        hold!(is_same(&after, &before), "`apply` to a route made {after:?} of another route, {before:?}");
    }
    let (cx, closed) = (bench.cx("close the other route"), all_to(&[]));
    bench.done("apply to the other route", || traffic.apply(&cx, &other, &closed, &before.version)).await
}
