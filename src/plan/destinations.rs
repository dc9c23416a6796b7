//! Where a workload goes: every partition of the fleet is held against the rules, the best of those
//! that pass is taken, and the ones that nearly passed are kept with the reason.

mod reject;

pub(super) use self::reject::Reject;
use self::reject::nowhere;
use super::candidates::Candidate;
use super::input::Request;
use super::options::{Apart, Places, PreferredUnavailable, has_label};
use super::world::World;
use crate::fleet::{Partition, PartitionId, PredictionState, ServingState, Workload};

/// Candidates whose costs differ by less are equal; the hash decides, so that the choice stays when
/// the fleet changes a little.
const EQUAL: f64 = 2.0;

/// What a partition of unknown health is taken for where a person asked: worse than any that is
/// known to be well, so that it is taken only where none of those passes.
const AS_IF: (f64, f64) = (0.5, 0.0);

/// A destination that was found.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) partition: PartitionId,
    pub(super) because: String,
    /// It holds a copy already, nothing has to be copied.
    pub(super) has_copy: bool,
    /// Risks to state: a rule that had to be given up, a preferred target not taken.
    pub(super) risks: Vec<String>,
    /// The preferred target that could not be taken and why.
    pub(super) preferred_missed: Option<String>,
}

/// What the search found.
pub(super) struct Search<'a> {
    /// Where to, or in words why nowhere and what would help.
    pub(super) found: Result<Destination, (String, String)>,
    /// Partitions that nearly passed, nearest first.
    pub(super) rejected: Vec<(&'a PartitionId, Reject)>,
}

/// How strictly copies are kept apart in one pass of the search.
#[derive(Clone, Copy)]
struct Strictness {
    rack: bool,
    site: bool,
}

/// Looks for the place of `candidate`.
pub(super) fn search<'a>(candidate: &Candidate<'a>, world: &World<'a>) -> Search<'a> {
    let rules = &world.input.options.destinations;
    let full =
        Strictness { rack: rules.apart_by_rack != Apart::Ignore, site: rules.apart_by_site != Apart::Ignore };
    let (mut fits, mut rejected) = sieve(candidate, world, full);
    let mut risks = Vec::new();
    let relaxed =
        Strictness { rack: rules.apart_by_rack == Apart::Must, site: rules.apart_by_site == Apart::Must };
    if fits.is_empty() && (relaxed.rack != full.rack || relaxed.site != full.site) {
        (fits, rejected) = sieve(candidate, world, relaxed);
        if !fits.is_empty() {
            risks.push(format!(
                "anti-affinity given up: {} shares a rack or site with a copy of it, no other place was left",
                candidate.workload.id
            ));
        }
    }
    rejected.sort_by(|a, b| b.1.stage().cmp(&a.1.stage()).then_with(|| a.0.cmp(b.0)));
    let preferred = preferred(candidate.workload, world);
    let mut preferred_missed = None;
    if let Some(target) = preferred {
        if let Some(fit) = best(&fits, candidate.workload, |f| is_target(f.partition, target)) {
            let found = Ok(fit.taken("the preferred target", risks, None));
            return Search { found, rejected };
        }
        let why = rejected
            .iter()
            .find(|(id, _)| world.input.topology.partition(id).is_some_and(|p| is_target(p, target)))
            .map_or_else(|| "there is no such place".to_string(), |(_, reject)| reject.words());
        let missed =
            format!("the preferred target {target} of {} is not available: {why}", candidate.workload.id);
        if rules.preferred_unavailable == PreferredUnavailable::Hold {
            let relax = "let it take the next best, or mend the target".to_string();
            return Search { found: Err((missed, relax)), rejected };
        }
        risks.push(missed.clone());
        preferred_missed = Some(missed);
    }
    let Some(fit) = best(&fits, candidate.workload, |_| true) else {
        let reason = nowhere(&rejected);
        return Search { found: Err(reason), rejected };
    };
    let taken = fit.partition.id.clone();
    let found = Ok(fit.taken(&fit.because(), risks, preferred_missed));
    let mut others: Vec<&Fit> = fits.iter().filter(|f| f.partition.id != taken).collect();
    others.sort_by(|a, b| a.cost.total_cmp(&b.cost).then_with(|| a.partition.id.cmp(&b.partition.id)));
    let worse: Vec<_> =
        others.iter().take(3).map(|f| (&f.partition.id, Reject::Worse(f.behind(fit)))).collect();
    rejected.splice(0..0, worse);
    Search { found, rejected }
}

/// A partition that passes every rule.
struct Fit<'a> {
    partition: &'a Partition,
    cost: f64,
    /// Nothing is known of it now; a person may take it all the same.
    unknown: bool,
    probability: f64,
    health: f64,
    load_after: Option<f64>,
    same_rack: bool,
    same_site: bool,
    has_copy: bool,
}

impl Fit<'_> {
    fn because(&self) -> String {
        let mut words = match self.unknown {
            true => "health unknown".to_string(),
            false => format!("risk {:.1} %", 100.0 * self.probability),
        };
        words.push_str(match (self.same_site, self.same_rack) {
            (true, true) => ", same rack",
            (true, false) => ", other rack",
            (false, _) => ", other site",
        });
        if self.has_copy {
            words.push_str(", holds a copy already");
        }
        if let Some(load) = self.load_after {
            words.push_str(&format!(", {:.0} % load after", 100.0 * load));
        }
        words
    }

    fn behind(&self, taken: &Fit) -> String {
        if taken.has_copy && !self.has_copy {
            "would have to be copied to first".to_string()
        } else if taken.same_site && !self.same_site {
            "in another site, further away".to_string()
        } else if self.unknown && !taken.unknown {
            Reject::Unknown.words()
        } else if self.probability > taken.probability + 0.005 {
            format!("riskier: {:.1} %", 100.0 * self.probability)
        } else if self.health + 5.0 < taken.health {
            format!("its health is lower: {:.0}", self.health)
        } else if let (Some(own), Some(other)) = (self.load_after, taken.load_after)
            && own > other + 0.03
        {
            format!("busier: {:.0} % load after", 100.0 * own)
        } else {
            "as good; the taken one is next by hash".to_string()
        }
    }

    fn taken(&self, because: &str, mut risks: Vec<String>, preferred_missed: Option<String>) -> Destination {
        if self.unknown {
            risks.push(format!(
                "the health of {} is unknown: it is taken because a person asked",
                self.partition.id
            ));
        }
        Destination {
            partition: self.partition.id.clone(),
            because: because.to_string(),
            has_copy: self.has_copy,
            risks,
            preferred_missed,
        }
    }
}

/// The cheapest of those that `which` lets pass; among equals the highest by rendezvous hashing
/// (Thaler and Ravishankar 1998), so that a change of the fleet moves as little as possible.
fn best<'f, 'a>(
    fits: &'f [Fit<'a>],
    workload: &Workload,
    which: impl Fn(&Fit<'a>) -> bool,
) -> Option<&'f Fit<'a>> {
    let least = fits.iter().filter(|f| which(f)).map(|f| f.cost).min_by(f64::total_cmp)?;
    fits.iter()
        .filter(|f| which(f) && f.cost <= least + EQUAL)
        .max_by_key(|f| (rendezvous(workload, &f.partition.id), &f.partition.id))
}

fn rendezvous(workload: &Workload, partition: &PartitionId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(workload.id.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(partition.as_str().as_bytes());
    let word: [u8; 8] = hasher.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    u64::from_le_bytes(word)
}

fn sieve<'a>(
    candidate: &Candidate<'a>,
    world: &World<'a>,
    strictness: Strictness,
) -> (Vec<Fit<'a>>, Vec<(&'a PartitionId, Reject)>) {
    let (mut fits, mut rejected) = (Vec::new(), Vec::new());
    for partition in &world.input.topology.partitions {
        if partition.id == candidate.workload.partition {
            continue;
        }
        match check(candidate, partition, world, strictness) {
            Ok(fit) => fits.push(fit),
            Err(reject) => rejected.push((&partition.id, reject)),
        }
    }
    (fits, rejected)
}

fn check<'a>(
    candidate: &Candidate<'a>,
    partition: &'a Partition,
    world: &World<'a>,
    strictness: Strictness,
) -> Result<Fit<'a>, Reject> {
    let workload = candidate.workload;
    let topology = world.input.topology;
    // Its own driver has to know the place; what stands first at the source may be another driver's.
    if !topology.is_of(partition, &workload.class) {
        return Err(Reject::Class);
    }
    let source = topology.partition(&workload.partition);
    if world.is_draining(&partition.host) || source.is_some_and(|s| s.host == partition.host) {
        return Err(Reject::Draining);
    }
    if !matches!(partition.serving, ServingState::Active | ServingState::Passive | ServingState::Standby) {
        return Err(Reject::Serving(partition.serving));
    }
    if let Some(why) = world.input.avoided.get(&workload.id).and_then(|places| places.get(&partition.id)) {
        return Err(Reject::Failed(why.clone()));
    }
    let has_copy = workload.replicas.contains(&partition.id);
    place(candidate, partition, has_copy, world)?;
    labelled(partition, world)?;
    if let Some(reason) = world.vetoed_place(partition) {
        return Err(Reject::Veto(reason));
    }
    let (known, unknown) = match (health(partition, world), &world.input.request) {
        (Ok(known), _) => (known, false),
        (Err(Reject::Unknown), Request::EvacuateHost { .. }) => (AS_IF, true),
        (Err(reject), _) => return Err(reject),
    };
    let (probability, health) = known;
    apart(workload, partition, world, strictness)?;
    let data = if has_copy { 0 } else { candidate.data.0 };
    let (data_after, load_after) = capacity(workload, data, partition, world)?;
    let own_load = world.partition_load_after(&partition.id, workload);
    let most = world.input.options.destinations.most_load.get();
    if let Some(after) = own_load.filter(|after| *after > most) {
        return Err(Reject::Load(after, most));
    }
    let load_after = own_load.or(load_after);
    let (mut same_rack, mut same_site) = (false, false);
    if let (Some(from), Some(to)) = (world.host_of(&workload.partition), world.host_of(&partition.id)) {
        same_site = from.site == to.site;
        same_rack = same_site && from.rack == to.rack;
    }
    let copying = if has_copy || workload.stateless { 0.0 } else { 10.0 };
    let distance = match (same_site, same_rack) {
        // What makes a host fail may be in its rack.
        (true, true) => 5.0,
        (true, false) => 0.0,
        (false, _) => 15.0,
    };
    let cost = 200.0 * probability
        + 0.4 * (100.0 - health)
        + 60.0 * load_after.unwrap_or(0.5).powi(2)
        + 10.0 * data_after.unwrap_or(0.5)
        + distance
        + copying;
    Ok(Fit { partition, cost, unknown, probability, health, load_after, same_rack, same_site, has_copy })
}

/// The probability that it fails within the planning window, and its health.
///
/// # Errors
/// Where it is known not to be well enough, or nothing is known of it now. While its state still says
/// that it fails, it is refused as failing, also with an assessment that has expired.
fn health(partition: &Partition, world: &World) -> Result<(f64, f64), Reject> {
    let rules = &world.input.options.destinations;
    let state = world.input.states.get(&partition.id).copied().unwrap_or(PredictionState::Unknown);
    if !matches!(state, PredictionState::Healthy | PredictionState::Unknown) {
        return Err(Reject::State(state));
    }
    let probability = world.probability(&partition.id).map(|p| p.get());
    if let Some(high) = probability.filter(|p| *p >= rules.most_probability.get()) {
        return Err(Reject::Risk(high));
    }
    let health = world.live(&partition.id).and_then(|live| live.health).map(|h| h.get());
    if let Some(low) = health.filter(|h| *h < rules.least_health) {
        return Err(Reject::Health(low));
    }
    match (state, probability, health) {
        (PredictionState::Healthy, Some(probability), Some(health)) => Ok((probability, health)),
        _ => Err(Reject::Unknown),
    }
}

/// Whether its host has every label that the configuration wants of a destination.
fn labelled(partition: &Partition, world: &World) -> Result<(), Reject> {
    let host = world.host_of(&partition.id);
    let has = |label| host.is_some_and(|host| has_label(&host.labels, label));
    match world.input.options.destinations.only_labels.iter().find(|label| !has(label)) {
        Some((key, _)) => Err(Reject::Label(key.clone())),
        None => Ok(()),
    }
}

/// Where the driver can move to at all.
fn place(candidate: &Candidate, partition: &Partition, has_copy: bool, world: &World) -> Result<(), Reject> {
    match candidate.class.places {
        Places::SameClass => Ok(()),
        Places::CopyOnly if has_copy => Ok(()),
        Places::CopyOnly => Err(Reject::Place("holds no copy, and its driver moves to copies only")),
        Places::CopyOrEmpty => {
            // A partition serves one workload of such a class, and a copy of another's is not empty.
            let free = world.hosted(&partition.id).is_empty() && world.arriving(&partition.id).is_empty();
            let empty = free && !world.holds_copies(&partition.id);
            if (has_copy && free) || empty {
                Ok(())
            } else {
                Err(Reject::Place("neither holds a copy of it nor is empty"))
            }
        }
    }
}

/// Copies of one workload stay apart; the place of a copy that is promoted is no second copy.
fn apart(
    workload: &Workload,
    partition: &Partition,
    world: &World,
    strictness: Strictness,
) -> Result<(), Reject> {
    let Some(host) = world.host_of(&partition.id) else { return Ok(()) };
    for copy in workload.replicas.iter().filter(|c| **c != partition.id && **c != workload.partition) {
        let Some(other) = world.host_of(copy) else { continue };
        if other.id == host.id {
            return Err(Reject::CopyOnHost);
        }
        if strictness.site && host.shares_site(other) {
            return Err(Reject::CopyInSite(host.site.to_string()));
        }
        if strictness.rack && host.shares_rack(other) {
            return Err(Reject::CopyInRack(host.rack.to_string()));
        }
    }
    Ok(())
}

/// Shares of space and processing of the host after the move; `None` where nobody says what it has.
fn capacity(
    workload: &Workload,
    data: u64,
    partition: &Partition,
    world: &World,
) -> Result<(Option<f64>, Option<f64>), Reject> {
    let rules = &world.input.options.destinations;
    let Some((host, capacity)) = world.host_of(&partition.id).and_then(|h| Some((h, h.capacity?))) else {
        return Ok((None, None));
    };
    let (arriving, arriving_load) = world.arriving_on(&host.id);
    let used = capacity.data_used.0 as f64 + arriving.0 as f64 + data as f64;
    let data_after = used / (capacity.data.0 as f64).max(1.0);
    if data > 0 && data_after > rules.most_data.get() {
        return Err(Reject::Data(data_after, rules.most_data.get()));
    }
    let load_after = capacity.load.get() + arriving_load + world.load_of(workload);
    if load_after > rules.most_load.get() {
        return Err(Reject::Load(load_after, rules.most_load.get()));
    }
    Ok((Some(data_after), Some(load_after)))
}

fn preferred<'a>(workload: &Workload, world: &World<'a>) -> Option<&'a str> {
    let host = world.host_of(&workload.partition).map_or("", |h| h.id.as_str());
    let names = [workload.id.as_str(), workload.application.as_str(), workload.partition.as_str(), host];
    let preferred = &world.input.options.destinations.preferred;
    names.iter().find_map(|n| preferred.iter().find(|p| p.subject == *n)).map(|p| p.target.as_str())
}

fn is_target(partition: &Partition, target: &str) -> bool {
    partition.id.as_str() == target || partition.host.as_str() == target
}
