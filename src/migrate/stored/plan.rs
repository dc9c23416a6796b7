//! The plan of a migration: what every one has, one after the other, then what this one has, each behind its
//! number, and a zero.

use super::bytes::{Reader, Unreadable, Writer};
use super::{FORM, read};
use crate::drivers::Capabilities;
use crate::fleet::{
    Bytes, Generation, MigrationId, PartitionId, Probability, ProposalId, Revision, WorkloadId,
};
use crate::migrate::plan::{Place, Plan, Policy};
use crate::plan::proposal::{CanaryPlan, CanaryStep, PlanHash};

/// The bytes of a plan that are stored.
pub(in crate::migrate) fn put(plan: &Plan) -> Vec<u8> {
    // Whatever is added must be written, too.
    let Plan {
        id,
        proposal,
        hash,
        order,
        workload,
        class,
        source,
        destination,
        source_place,
        destination_place,
        predicted,
        probability,
        stateless,
        routed,
        generation,
        canary,
        soak,
        data,
        duration,
        capabilities,
        topology,
        approved_by,
        approved_at,
        expires,
        policy,
    } = plan;
    let mut to = Writer::new(FORM, 512);
    to.number(id.0).number(proposal.0).bytes(&hash.0).number(*order).text(workload.as_str()).text(class);
    to.text(source.as_str()).text(destination.as_str());
    put_place(&mut to, source_place);
    put_place(&mut to, destination_place);
    to.flags([*predicted, *stateless, *routed]).number(generation.0);
    put_canary(&mut to, canary);
    to.span(*soak).number(data.0).span(*duration);
    put_capabilities(&mut to, *capabilities);
    to.number(topology.0).text(approved_by).time(*approved_at).time(*expires);
    put_policy(&mut to, policy);
    if let Some(probability) = probability {
        to.byte(1).float(probability.get());
    }
    if let Some(rate) = policy.copy_rate {
        to.byte(2).number(rate.0);
    }
    if let Some(bound) = policy.loss_bound {
        to.byte(3).span(bound);
    }
    if capabilities.drops_source {
        to.byte(4);
    }
    to.byte(0);
    to.done()
}

fn put_place(to: &mut Writer, place: &Place) {
    let Place { host, rack, site } = place;
    to.text(host.as_str()).text(rack.as_str()).text(site.as_str());
}

fn put_canary(to: &mut Writer, canary: &CanaryPlan) {
    let CanaryPlan { steps, p99_tolerance, latency_margin_ms, min_samples } = canary;
    to.number(steps.len() as u64);
    for CanaryStep { share, duration } in steps {
        to.share(*share).span(*duration);
    }
    to.float(*p99_tolerance).float(*latency_margin_ms).number(*min_samples);
}

fn put_capabilities(to: &mut Writer, capabilities: Capabilities) {
    let Capabilities {
        online,
        digest,
        reverse_proved_before_cut,
        reverse,
        fence_checked_by_target,
        canary_reads,
        canary_traffic,
        system_votes,
        follows,
        // Behind the plan, where it is so: earlier versions do not know it.
        drops_source: _,
    } = capabilities;
    to.flags([online, digest, reverse_proved_before_cut, reverse, fence_checked_by_target, canary_reads]);
    to.flags([canary_traffic, system_votes, follows]);
}

/// The policy without what it need not have.
fn put_policy(to: &mut Writer, policy: &Policy) {
    let Policy {
        fence_budget,
        compare_age,
        cut_tries,
        attempts,
        retry_after,
        act_tries,
        probe_tries,
        poll,
        lag_bound,
        lag_times,
        state_limit,
        prepare_limit,
        copy_least,
        catch_up_least,
        verify_least,
        copy_rate: _,
        copy_scale,
        patience,
        proof_age,
        source_lost_after,
        loss_bound: _,
        compare_again,
    } = policy;
    to.span(*fence_budget).span(*compare_age).number(*cut_tries).number(*attempts).span(*retry_after);
    to.number(*act_tries).number(*probe_tries).span(*poll).span(*lag_bound).number(*lag_times);
    to.span(*state_limit).span(*prepare_limit).span(*copy_least).span(*catch_up_least).span(*verify_least);
    to.float(*copy_scale).span(*patience).span(*proof_age).number(*source_lost_after);
    to.flags([*compare_again]);
}

/// A plan from what is stored of it, in this form or as JSON.
///
/// # Errors
/// What is wrong with it.
pub(in crate::migrate) fn take(bytes: &[u8]) -> Result<Plan, Unreadable> {
    read(bytes, take_parts)
}

fn take_parts(from: &mut Reader<'_>) -> Result<Plan, Unreadable> {
    let partition = "a partition";
    let (id, proposal) = (MigrationId(from.number("its number")?), ProposalId(from.number("a proposal")?));
    let hash = PlanHash(from.bytes("the hash of a proposal")?);
    let order = from.small("which of the moves")?;
    let (workload, class) = (WorkloadId::new(from.text("a workload")?), from.text("a class")?.to_string());
    let source = PartitionId::new(from.text(partition)?);
    let destination = PartitionId::new(from.text(partition)?);
    let (source_place, destination_place) = (take_place(from)?, take_place(from)?);
    let [predicted, stateless, routed] = from.flags("what kind of move it is")?;
    let generation = Generation(from.number("a generation")?);
    let canary = take_canary(from)?;
    let soak = from.span("how long it is watched")?;
    let data = Bytes(from.number("data to copy")?);
    let duration = from.span("how long it takes")?;
    let capabilities = take_capabilities(from)?;
    let topology = Revision(from.number("a revision")?);
    let approved_by = from.text("who")?.to_string();
    let (approved_at, expires) = (from.time("when it was approved")?, from.time("when that ends")?);
    let mut plan = Plan {
        id,
        proposal,
        hash,
        order,
        workload,
        class,
        source,
        destination,
        source_place,
        destination_place,
        predicted,
        probability: None,
        stateless,
        routed,
        generation,
        canary,
        soak,
        data,
        duration,
        capabilities,
        topology,
        approved_by,
        approved_at,
        expires,
        policy: take_policy(from)?,
    };
    loop {
        let what = "a part of a plan";
        match from.byte(what)? {
            0 => return Ok(plan),
            1 => {
                let what = "a probability from 0 to 1";
                let got = from.float(what)?;
                let odd = |_| Unreadable::Odd { what, got: got.to_bits() };
                plan.probability = Some(Probability::new(got).map_err(odd)?);
            }
            2 => plan.policy.copy_rate = Some(Bytes(from.number("bytes a second")?)),
            3 => plan.policy.loss_bound = Some(from.span("how far behind it may be")?),
            4 => plan.capabilities.drops_source = true,
            got => return Err(Unreadable::Odd { what, got: u64::from(got) }),
        }
    }
}

fn take_place(from: &mut Reader<'_>) -> Result<Place, Unreadable> {
    let mut text = || from.text("where it stands");
    Ok(Place { host: text()?.into(), rack: text()?.into(), site: text()?.into() })
}

fn take_canary(from: &mut Reader<'_>) -> Result<CanaryPlan, Unreadable> {
    let mut steps = Vec::new();
    for _ in 0..from.number("how many canary steps")? {
        steps.push(CanaryStep { share: from.share()?, duration: from.span("how long a step takes")? });
    }
    Ok(CanaryPlan {
        steps,
        p99_tolerance: from.float("a tolerance")?,
        latency_margin_ms: from.float("a margin of latency")?,
        min_samples: from.number("fewest samples")?,
    })
}

fn take_capabilities(from: &mut Reader<'_>) -> Result<Capabilities, Unreadable> {
    let what = "what a driver can do";
    let [online, digest, reverse_proved_before_cut, reverse, fence_checked_by_target, canary_reads] =
        from.flags(what)?;
    let [canary_traffic, system_votes, follows] = from.flags(what)?;
    Ok(Capabilities {
        online,
        digest,
        reverse_proved_before_cut,
        reverse,
        fence_checked_by_target,
        canary_reads,
        canary_traffic,
        system_votes,
        follows,
        drops_source: false,
    })
}

fn take_policy(from: &mut Reader<'_>) -> Result<Policy, Unreadable> {
    let (how_long, how_often) = ("how long something may take", "how often something is tried");
    Ok(Policy {
        fence_budget: from.span(how_long)?,
        compare_age: from.span(how_long)?,
        cut_tries: from.small(how_often)?,
        attempts: from.small(how_often)?,
        retry_after: from.span(how_long)?,
        act_tries: from.small(how_often)?,
        probe_tries: from.small(how_often)?,
        poll: from.span(how_long)?,
        lag_bound: from.span(how_long)?,
        lag_times: from.small(how_often)?,
        state_limit: from.span(how_long)?,
        prepare_limit: from.span(how_long)?,
        copy_least: from.span(how_long)?,
        catch_up_least: from.span(how_long)?,
        verify_least: from.span(how_long)?,
        copy_rate: None,
        copy_scale: from.float("how far beyond the estimate")?,
        patience: from.span(how_long)?,
        proof_age: from.span(how_long)?,
        source_lost_after: from.small(how_often)?,
        loss_bound: None,
        compare_again: from.flags::<1>("what is done once more")?[0],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::Span;

    /// A plan as earlier versions stored it; no two values are the same where that can be.
    const STORED: &str = r#"{
        "id": 300, "proposal": 2, "hash": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 255], "order": 3, "workload": "shop/é", "class": "postgres",
        "source": "h1/p", "destination": "h2/p",
        "source_place": {"host": "h1", "rack": "r1", "site": "s1"},
        "destination_place": {"host": "h2", "rack": "r2", "site": "s2"},
        "predicted": true, "probability": 0.7, "stateless": false, "routed": true, "generation": 4,
        "canary": {
            "steps": [{"share": 0.05, "duration": 5000}, {"share": 0.5, "duration": 6000}],
            "p99_tolerance": 0.25, "latency_margin_ms": 0.2, "min_samples": 50
        },
        "soak": 7000, "data": 1099511627776, "duration": 8000,
        "capabilities": {
            "online": true, "digest": false, "reverse_proved_before_cut": true, "reverse": true,
            "fence_checked_by_target": false, "canary_reads": false, "canary_traffic": true, "system_votes": false,
            "follows": true, "drops_source": false
        },
        "topology": 9, "approved_by": "anna", "approved_at": 1790000000000, "expires": -10,
        "policy": {
            "fence_budget": 11, "compare_age": 12, "cut_tries": 13, "attempts": 14, "retry_after": 15, "act_tries": 16,
            "probe_tries": 17, "poll": 18, "lag_bound": 19, "lag_times": 20, "state_limit": 21, "prepare_limit": 22,
            "copy_least": 23, "catch_up_least": 24, "verify_least": 25, "copy_rate": 26, "copy_scale": 2.7,
            "patience": 28, "proof_age": 29, "source_lost_after": 30, "loss_bound": 31, "compare_again": false
        }
    }"#;

    fn json() -> Value {
        serde_json::from_str(STORED).unwrap()
    }

    fn is_kept(json: &Value) {
        let plan: Plan = serde_json::from_value(json.clone()).unwrap();
        let (bytes, text) = (plan.bytes(), serde_json::to_vec(&plan).unwrap());
        assert_eq!(Plan::read(&bytes).unwrap(), plan);
        assert_eq!(Plan::read(&text).unwrap(), plan, "of an earlier version");
        assert!(bytes.len() * 3 < text.len(), "{} of {} bytes", bytes.len(), text.len());
        for cut in 0..bytes.len() {
            assert!(Plan::read(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Plan::read(&longer).unwrap_err().to_string(), "1 bytes are left behind its end");
    }

    #[test]
    fn a_plan_is_read_as_it_was_written_and_so_is_that_of_an_earlier_version() {
        is_kept(&json());
        for (part, field) in [("", "probability"), ("/policy", "copy_rate"), ("/policy", "loss_bound")] {
            let mut without = json();
            without.pointer_mut(part).unwrap()[field] = Value::Null;
            is_kept(&without);
        }
        for part in ["", "/capabilities", "/policy"] {
            let flags: Vec<String> = match json().pointer(part).unwrap() {
                Value::Object(all) => {
                    all.iter().filter(|(_, v)| v.is_boolean()).map(|(k, _)| k.clone()).collect()
                }
                _ => Vec::new(),
            };
            for flag in flags {
                let mut other = json();
                let value = &mut other.pointer_mut(part).unwrap()[&flag];
                *value = json!(!value.as_bool().unwrap());
                is_kept(&other);
            }
        }
    }

    #[test]
    fn the_bytes_of_a_plan_are_those_of_every_store_that_was_written() {
        let plan: Plan = serde_json::from_value(json()).unwrap();
        // Whoever has to change this gives the form a new number, and goes on reading this one.
        assert_eq!(
            crate::fleet::digits::hex(&blake3::hash(&plan.bytes()).as_bytes()[..8]),
            "7f1a5e1152fbe5bf"
        );
        assert_eq!(plan.policy.copy_least, Span(23));
    }

    proptest! {
        #[test]
        fn other_bytes_are_no_plan_or_one_and_nothing_breaks(at in 0usize..400, byte: u8) {
            let mut changed = serde_json::from_value::<Plan>(json()).unwrap().bytes();
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            if let Ok(plan) = Plan::read(&changed) {
                // A number may be written longer than it need be, and a float be none.
                prop_assert_eq!(Plan::read(&plan.bytes()).unwrap().bytes(), plan.bytes());
            }
        }
    }
}
